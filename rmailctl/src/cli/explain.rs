//! What `rmailctl explain` is asked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `rmailctl explain`.
///
/// Prints each decision in the order in which a session meets it, with what it rests on and the key of the configuration or the command
/// that has it so, and a line for each recipient at the end. Nothing is counted, set aside or delivered. Filters are named, and asked
/// only with --filters.
///
/// Room is looked for beside what the recipients before take of it. SIZE, BODY=8BITMIME and SMTPUTF8 are said as the message and the
/// addresses demand, unless --mail-parameters says something else. Passwords are not tried (see rmailctl ban list for who is locked out).
///
/// The exit status is 0 if the mail is taken for all recipients, 1 if not, and 64 or more if that could not be found out.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExplainOptions {
    /// The client's address.
    #[arg(long)]
    pub ip: IpAddr,
    /// What the client calls itself; its address in brackets if not given.
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// MAIL FROM; the user if one is given, else the null sender of reports.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// RCPT TO; may be given several times, --to for each.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub to: Vec<String>,
    /// Where the client connects; "submissions" if a user is given and no listener.
    #[arg(long, value_enum)]
    pub listener: Option<ListenerName>,
    /// Parameters of MAIL in the words of the command: "RET=HDRS ENVID=x", REQUIRETLS, BY=600;R, HOLDFOR=600, MT-PRIORITY=3. With
    /// BODY=BINARYMIME the message is sent as it is; such a message comes with --bdat.
    #[arg(long, value_name = "PARAMETERS")]
    pub mail_parameters: Option<String>,
    /// Parameters of each RCPT: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b.example".
    #[arg(long, value_name = "PARAMETERS")]
    pub rcpt_parameters: Option<String>,
    /// The message comes in a chunk (BDAT, RFC 3030).
    #[arg(long)]
    pub bdat: bool,
    /// Who logs in, with the right password.
    #[arg(long, value_name = "LOGIN")]
    pub user: Option<String>,
    /// The client has started TLS; where logins are it always has.
    #[arg(long)]
    pub tls: bool,
    /// Ask the filters, as if the mail had come. What they learn, count or write down of it is theirs and stays.
    #[arg(long)]
    pub filters: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// The message, or - for standard input; without it only what comes before the message is looked at. If its first line ends with
    /// LF only, as lines of files do, each such line end is sent as CRLF; otherwise it is sent as it is.
    pub file: Option<PathBuf>,
}

/// A listener of smtpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListenerName {
    /// Port 25.
    Smtp,
    /// Port 587.
    Submission,
    /// Port 465.
    Submissions,
    /// LMTP over TCP.
    Lmtp,
    /// LMTP over the socket file.
    LmtpLocal,
}
