use alloc::format;
use alloc::string::String;

use proptest::prelude::*;

use super::*;

/// Subjects are single letters, in upper case for replies; a blank is none.
fn letter(number: u32, date: i64, subject: char) -> Letter {
    Letter {
        number,
        is_reply: subject.is_ascii_uppercase(),
        date,
        subject: match subject {
            ' ' => 0,
            subject => u128::from(u32::from(subject.to_ascii_lowercase())),
        },
    }
}

/// Messages by number: date, subject, identifier, those of the ancestors.
type Mail<'a> = (i64, char, u128, &'a [u128]);

fn threads(algorithm: Algorithm, mails: &[Mail<'_>]) -> String {
    let mut threader = Threader::new(algorithm);
    for (number, (date, subject, id, ancestors)) in (1..).zip(mails) {
        let letter = letter(number, *date, *subject);
        threader.add(letter, *id, ancestors.iter().copied());
    }
    let mut out = Vec::new();
    threader.finish().write(&mut out);
    let line = String::from_utf8(out).unwrap();
    let line = line.strip_prefix("* THREAD").unwrap();
    String::from(line.strip_suffix("\r\n").unwrap().trim_start())
}

fn by_references(mails: &[Mail<'_>]) -> String {
    threads(Algorithm::References, mails)
}

// RFC 5256 §4: (2)(3 6 (4 23)(44 7 96)), with other numbers.
#[test]
fn answers_are_written_as_the_rfc_shows_them() {
    let mails: &[Mail<'_>] = &[
        (1, 'a', 2, &[]),
        (2, 'b', 3, &[]),
        (3, 'B', 6, &[3]),
        (4, 'B', 4, &[3, 6]),
        (5, 'B', 23, &[3, 6, 4]),
        (6, 'B', 44, &[3, 6]),
        (7, 'B', 7, &[3, 6, 44]),
        (8, 'B', 96, &[3, 6, 44, 7]),
    ];
    assert_eq!(by_references(mails), "(1)(2 3 (4 5)(6 7 8))");
    assert_eq!(
        threads(Algorithm::OrderedSubject, mails),
        "(1)(2 (3)(4)(5)(6)(7)(8))"
    );
    assert_eq!(by_references(&[]), "");
}

// RFC 5256 §4: ((3)(5)), two siblings whose parent is not there.
#[test]
fn who_refers_to_what_is_not_there_stays_together() {
    let mails: &[Mail<'_>] = &[(2, 'a', 2, &[1]), (1, 'b', 3, &[1]), (3, 'c', 0, &[9, 8])];
    assert_eq!(by_references(mails), "((2)(1))(3)");
    // Dummies below others go.
    let mails: &[Mail<'_>] = &[
        (1, 'a', 2, &[9, 8]),
        (2, 'b', 3, &[9, 7]),
        (3, 'c', 4, &[9, 7]),
    ];
    assert_eq!(by_references(mails), "((1)(2)(3))");
    let mails: &[Mail<'_>] = &[
        (1, 'a', 9, &[]),
        (2, 'b', 3, &[9, 7]),
        (3, 'c', 4, &[9, 7, 6]),
    ];
    assert_eq!(by_references(mails), "(1 (2)(3))");
}

#[test]
fn what_comes_before_its_parent_finds_it() {
    let mails: &[Mail<'_>] = &[(3, 'A', 3, &[1, 2]), (2, 'A', 2, &[1]), (1, 'a', 1, &[])];
    assert_eq!(by_references(mails), "(3 2 1)");
    // What a message says of itself counts more than what others say; nothing counts as well.
    let mails: &[Mail<'_>] = &[(1, ' ', 5, &[1, 2]), (2, ' ', 1, &[]), (3, ' ', 2, &[])];
    assert_eq!(by_references(mails), "(2)(3 1)");
    let mails: &[Mail<'_>] = &[(1, ' ', 1, &[]), (2, ' ', 2, &[]), (3, ' ', 5, &[1, 2])];
    assert_eq!(by_references(mails), "(1 2 3)");
}

#[test]
fn of_two_with_one_identifier_the_first_has_it() {
    let mails: &[Mail<'_>] = &[(1, ' ', 1, &[]), (2, ' ', 1, &[]), (3, ' ', 2, &[1])];
    assert_eq!(by_references(mails), "(1 3)(2)");
}

#[test]
fn loops_are_not_made() {
    let mails: &[Mail<'_>] = &[(1, ' ', 1, &[2]), (2, ' ', 2, &[1])];
    assert_eq!(by_references(mails), "(2 1)");
    assert_eq!(by_references(&[(1, ' ', 1, &[1])]), "(1)");
    assert_eq!(by_references(&[(1, ' ', 1, &[1, 2, 1])]), "(1)");
    let mails: &[Mail<'_>] = &[(1, ' ', 1, &[3]), (2, ' ', 2, &[1]), (3, ' ', 3, &[2])];
    assert_eq!(by_references(mails), "(3 1 2)");
}

// RFC 5256 §3, REFERENCES, step 5.
#[test]
fn threads_of_one_subject_are_gathered() {
    for (mails, expected) in [
        // A reply goes below what it answers, whichever came first.
        (&[(1, 'a', 1, &[][..]), (2, 'A', 2, &[])][..], "(1 2)"),
        (&[(1, 'A', 1, &[]), (2, 'a', 2, &[])], "(2 1)"),
        // Two of a kind become siblings.
        (&[(1, 'a', 1, &[]), (2, 'a', 2, &[])], "((1)(2))"),
        (
            &[(1, 'A', 1, &[]), (2, 'A', 2, &[]), (3, 'A', 3, &[])],
            "((1)(2)(3))",
        ),
        (
            &[(1, 'a', 1, &[]), (2, 'a', 2, &[]), (3, 'A', 3, &[])],
            "((1)(2)(3))",
        ),
        // Without a subject nothing is gathered.
        (&[(1, ' ', 1, &[]), (2, ' ', 2, &[])], "(1)(2)"),
        // To a dummy, and two dummies to one.
        (
            &[(1, 'a', 1, &[9]), (2, 'b', 2, &[9]), (3, 'a', 3, &[])],
            "((1)(2)(3))",
        ),
        (
            &[(2, 'a', 1, &[9]), (3, 'b', 2, &[9]), (1, 'a', 3, &[])],
            "((3)(1)(2))",
        ),
        (
            &[
                (1, 'a', 1, &[9]),
                (2, 'b', 2, &[9]),
                (3, 'A', 3, &[8]),
                (4, 'c', 4, &[8]),
            ],
            "((1)(2)(3)(4))",
        ),
    ] {
        assert_eq!(by_references(mails), expected, "{mails:?}");
    }
    let mails: &[Mail<'_>] = &[(1, 'a', 1, &[]), (2, 'A', 2, &[])];
    assert_eq!(threads(Algorithm::Refs, mails), "(1)(2)");
}

#[test]
fn siblings_and_threads_are_in_order_of_dates() {
    let mails: &[Mail<'_>] = &[
        (9, 'a', 1, &[]),
        (5, 'b', 2, &[1]),
        (4, 'c', 3, &[1]),
        (4, 'd', 4, &[1]),
        (7, 'e', 5, &[]),
        (8, 'f', 6, &[5]),
    ];
    assert_eq!(by_references(mails), "(5 6)(1 (3)(4)(2))");
    // By the last of each.
    let mails: &[Mail<'_>] = &[(1, 'a', 1, &[]), (2, 'b', 2, &[]), (3, 'c', 3, &[1])];
    assert_eq!(by_references(mails), "(1 3)(2)");
    assert_eq!(threads(Algorithm::Refs, mails), "(2)(1 3)");
    let mails: &[Mail<'_>] = &[(2, 'b', 1, &[]), (1, 'a', 2, &[]), (3, 'B', 3, &[])];
    assert_eq!(threads(Algorithm::OrderedSubject, mails), "(2)(1 3)");
}

#[test]
fn a_thread_as_deep_as_the_mailbox_is_one() {
    const COUNT: u32 = 200_000;
    // In order, in the opposite order, and with a branch at each, which nests the answer.
    for (step, branches) in [(1, false), (-1, false), (1, true)] {
        let mut threader = Threader::new(Algorithm::References);
        for number in 1..=COUNT {
            let place = if step == 1 {
                number
            } else {
                COUNT - number + 1
            };
            let (id, parent) = match branches {
                true => (place, (place / 2 * 2).saturating_sub(2)),
                false => (place, place - 1),
            };
            let parent = (parent != 0).then_some(u128::from(parent));
            threader.add(
                letter(number, i64::from(place), ' '),
                u128::from(id),
                parent.into_iter(),
            );
        }
        let mut out = Vec::new();
        threader.finish().write(&mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(numbers(&line).len(), COUNT as usize);
        let ends = line.matches(')').count();
        assert_eq!(line.matches('(').count(), ends);
        assert_eq!(ends > 2, branches);
    }
}

// Each message asks whether the one on top of a deep thread is below it: 2.5 billion steps.
#[test]
fn looking_for_loops_ends() {
    let mut threader = Threader::new(Algorithm::References);
    let mut number = 0;
    let mut add = |id: u128, ancestors: &[u128]| {
        number += 1;
        threader.add(letter(number, 0, ' '), id, ancestors.iter().copied());
    };
    for depth in 1..=50_000_u128 {
        add(depth, &[depth - 1][..usize::from(depth > 1)]);
    }
    for other in 100_000..150_000_u128 {
        // The dummy has a child, and is put below the deep end.
        add(0, &[other]);
        add(0, &[50_000, other]);
    }
    let Threader { links, .. } = &threader;
    assert_eq!(links.climbs_left, 0);
    let mut out = Vec::new();
    threader.finish().write(&mut out);
    assert_eq!(numbers(&String::from_utf8(out).unwrap()).len(), 150_000);
}

#[test]
fn identifiers_that_are_nobodys_are_few() {
    let mut threader = Threader::new(Algorithm::Refs);
    threader.links.dummies_left = 3;
    for number in 1..=9_u32 {
        let one = u128::from(number) << 64;
        threader.add(
            letter(number, 0, ' '),
            u128::from(number),
            [one, one + 1, 1].into_iter(),
        );
    }
    assert_eq!(threader.links.nodes.len(), 9 + 3);
    let mut out = Vec::new();
    threader.finish().write(&mut out);
    assert_eq!(numbers(&String::from_utf8(out).unwrap()).len(), 9);
}

fn numbers(line: &str) -> Vec<u32> {
    let words = line.split(|letter: char| !letter.is_ascii_digit());
    let mut numbers: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Reads `(1 (2)(3))…` as pairs of a message and its parent, 0 for none; lists of members must be as the grammar has them.
fn pairs(text: &str) -> Vec<(u32, u32)> {
    let (mut pairs, mut parents, mut parent) = (Vec::new(), Vec::new(), 0);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        match letter {
            '(' => parents.push(parent),
            ')' => parent = parents.pop().expect("an end without a beginning"),
            ' ' => {}
            _ => {
                let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap();
                let number = rest[..end].parse().unwrap();
                pairs.push((number, parent));
                parent = number;
                rest = &rest[end..];
                continue;
            }
        }
        rest = &rest[1..];
    }
    assert!(parents.is_empty(), "a beginning without an end");
    pairs
}

#[test]
fn there_are_no_more_dummies_than_are_allowed() {
    let mut threader = Threader::new(Algorithm::References);
    threader.links.dummies_left = 2;
    for (number, ancestor) in (1..=4).zip([91, 92, 93, 91]) {
        threader.add(
            letter(number, 1, ' '),
            u128::from(number),
            [ancestor].into_iter(),
        );
    }
    assert_eq!(threader.links.nodes.len(), 4 + 2);
    // Who refers to one that is not kept begins a thread; all the same there is room for what a message turns out to be.
    threader.add(letter(5, 1, ' '), 91, core::iter::empty());
    threader.add(letter(6, 1, ' '), 6, [94].into_iter());
    assert_eq!(
        (threader.links.nodes.len(), threader.links.dummies_left),
        (8, 0)
    );
    let mut out = Vec::new();
    threader.finish().write(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "* THREAD (2)(3)(5 (1)(4))(6)\r\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn each_message_is_there_once_and_below_one_that_it_may_be_below(
        mails in proptest::collection::vec(
            (0_i64..6, "[a-cA-C ]", 0_u128..9, proptest::collection::vec(1_u128..12, 0..5)),
            0..14,
        ),
    ) {
        let mails: Vec<Mail<'_>> = mails
            .iter()
            .map(|(date, subject, id, ancestors)| {
                (*date, subject.chars().next().unwrap(), *id, ancestors.as_slice())
            })
            .collect();
        for algorithm in [Algorithm::OrderedSubject, Algorithm::References, Algorithm::Refs] {
            let text = threads(algorithm, &mails);
            let found = pairs(&text);
            let all: Vec<u32> = (1..).take(mails.len()).collect();
            let mut told: Vec<u32> = found.iter().map(|(number, _)| *number).collect();
            told.sort_unstable();
            prop_assert_eq!(told, all, "{}", text);
            // No list of one list, no empty list.
            prop_assert!(!text.contains("()"), "{}", text);
            for start in text.match_indices("((").map(|(start, _)| start) {
                prop_assert!(members(&text[start..]) > 1, "{}", text);
            }
            if algorithm == Algorithm::OrderedSubject {
                let parent = |number: u32| found.iter().find(|pair| pair.0 == number).unwrap().1;
                prop_assert!(found.iter().all(|pair| pair.1 == 0 || parent(pair.1) == 0));
            }
        }
    }
}

/// How many lists there are in the list that begins here.
fn members(text: &str) -> usize {
    let (mut depth, mut count) = (0, 0);
    for letter in text.chars() {
        match letter {
            '(' => {
                depth += 1;
                count += usize::from(depth == 2);
            }
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    count
}

#[test]
fn the_helpers_of_this_test_see_faults() {
    assert_eq!(
        pairs("(1 (2)(3 4))(5)"),
        [(1, 0), (2, 1), (3, 1), (4, 3), (5, 0)]
    );
    assert_eq!((members("((1)(2))"), members("((1))")), (2, 1));
    assert_eq!(format!("{:?}", numbers("(1 (2)(13))")), "[1, 2, 13]");
}
