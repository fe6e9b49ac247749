//! Decides how many connections the operating system allows. Takes the limit of open files, raised
//! as far as possible; returns a number of connections.
//! Guarantees that descriptors are left for files, databases and destinations.

/// Maximum number of connections, however many files may be open.
const MOST_CONNECTIONS: usize = 8192;
/// Minimum number of connections: with fewer, a browser could not load a page.
const FEWEST_CONNECTIONS: usize = 8;
/// Descriptors kept for database connections, deliveries and files that open later: an eighth of
/// all, but at least this many.
const FEWEST_KEPT_FREE: usize = 24;

/// Raises the soft limit of open files to the hard one, and returns how many connections are
/// possible.
pub(crate) fn most_connections() -> usize {
    let wanted = u64::try_from(MOST_CONNECTIONS * 5 / 4).unwrap_or(u64::MAX);
    let limit = match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "could not read the limit of open files; assuming 1024");
            1024
        }
    };
    let connections = fit_below(limit, open_now());
    if connections < MOST_CONNECTIONS {
        tracing::info!(
            open_files = limit,
            connections,
            "the limit of open files limits the connections (ulimit -n, LimitNOFILE)"
        );
    }
    connections
}

fn fit_below(limit: usize, open_now: usize) -> usize {
    let kept_free = FEWEST_KEPT_FREE.max(limit / 8);
    limit
        .saturating_sub(open_now)
        .saturating_sub(kept_free)
        .clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)
}

/// The number of open descriptors; a usual number if the system does not list them.
fn open_now() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_destinations_find_descriptors_left() {
        assert_eq!(fit_below(64, 20), 20);
        assert_eq!(fit_below(1024, 24), 872);
        assert_eq!(fit_below(1_048_576, 24), MOST_CONNECTIONS);
        assert_eq!(fit_below(usize::MAX, 24), MOST_CONNECTIONS);
        assert_eq!(fit_below(16, 20), FEWEST_CONNECTIONS);
    }
}
