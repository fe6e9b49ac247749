//! The kinds of destinations: what each does its own way.
//! Takes a kind; returns its constants and functions, which are in a file of their own.
//! Guarantees that no other code of sending asks which kind a destination is.

use super::{Outgoing, anytrack, webhook};
use crate::domain::{SkipReason, Word as _};
use crate::settings::{DestinationKind, DestinationOptions, Row};

/// What a kind of destinations does its own way.
pub(crate) struct Kind {
    /// The name on pages.
    pub(crate) name: &'static str,
    /// Where its URL is found: the end of "Copy the full URL from".
    pub(crate) url_is_on: &'static str,
    /// True if two destinations with the same URL would count every sale twice.
    pub(crate) counts_repeats: bool,
    /// True if messages are signed with the destination's secrets.
    pub(crate) is_signed: bool,
    /// The template that equals its standard message, or resembles it.
    pub(crate) preset: &'static str,
    /// The event of a test conversion, which then has no value; `None` sends a purchase.
    pub(crate) test_event: Option<&'static str>,
    /// The options of a new destination that starts from a template.
    pub(crate) new_options: fn(preset: &str) -> DestinationOptions,
    /// What a mapping lacks.
    pub(crate) mapping_faults: fn(&[Row]) -> Vec<&'static str>,
    /// Refuses a conversion that it could not use.
    pub(super) admit: fn(&DestinationOptions, &Outgoing) -> Result<(), SkipReason>,
    /// The standard message, as JSON, with this event name.
    pub(super) standard: fn(&DestinationOptions, &Outgoing, &str) -> String,
}

/// The kind of a new destination that starts from this template; `webhook` is none, for a program.
pub(crate) fn of_preset(preset: &str) -> DestinationKind {
    DestinationKind::parse(preset).unwrap_or_default()
}

/// The kind's own way.
pub(crate) fn kind(kind: DestinationKind) -> &'static Kind {
    match kind {
        DestinationKind::AnyTrack => &anytrack::KIND,
        DestinationKind::Webhook => &webhook::KIND,
    }
}
