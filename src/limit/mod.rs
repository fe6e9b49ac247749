//! Limits that keep strangers from using up the server. Takes who asks and what it costs; returns a place, a yes, or a number of what was left out.
//! Memory, connections and log lines stay bounded whatever arrives; somebody who behaves is served while others do not.

pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod places;
