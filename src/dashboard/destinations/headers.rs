//! The headers of every request. Takes lines `Name: value`; returns headers, or the error of the first wrong line. A
//! saved value is never shown again: `***`, or a line with only the name, keeps it.

use crate::dashboard::views::entered;
use crate::settings::{DestinationOptions, Header};

/// Maximum number of custom headers.
const MAX_HEADERS: usize = 20;
/// Maximum length of a value.
const MAX_VALUE_BYTES: usize = 2000;
/// Headers that only Clickstamp sets.
const OUR_HEADERS: [&str; 5] =
    ["host", "content-length", "content-type", "connection", "transfer-encoding"];

pub(super) fn show(options: &DestinationOptions) -> String {
    let lines = options.message.headers.iter().map(|header| format!("{}: ***", header.name));
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn read(options: &mut DestinationOptions, text: &str, _: bool) -> Result<(), String> {
    let lines = text.lines().filter_map(|line| entered(Some(line)));
    let headers: Result<Vec<Header>, String> =
        lines.map(|line| header(&line, &options.message.headers)).collect();
    let headers = headers?;
    if headers.len() > MAX_HEADERS {
        return Err(format!("At most {MAX_HEADERS} headers."));
    }
    options.message.headers = headers;
    Ok(())
}

fn header(line: &str, known: &[Header]) -> Result<Header, String> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("Write each header as Name: value, one per line.".to_owned());
    }
    if OUR_HEADERS.contains(&name.as_str()) || name.starts_with("webhook-") {
        return Err(format!("Clickstamp sets the header {name}; you can’t change it."));
    }
    let is_printable = value.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !is_printable || value.len() > MAX_VALUE_BYTES {
        return Err(format!(
            "The value of the header {name} has a character that isn’t allowed in headers."
        ));
    }
    let known = known.iter().find(|known| known.name == name);
    let value = match known.filter(|_| value.is_empty() || value == "***") {
        Some(known) => known.value.clone(),
        None => value.to_owned(),
    };
    Ok(Header { name, value })
}
