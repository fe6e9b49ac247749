//! How many connections the operating system allows. Takes the limit of open files, raised as far as we may; returns a number of connections.
//! Files, databases and destinations always find descriptors left.

/// Most connections, however many files may be open.
const MOST_CONNECTIONS: usize = 8192;
/// Fewest connections: with less a browser could not load a page.
const FEWEST_CONNECTIONS: usize = 8;
/// Descriptors kept free for database connections, deliveries and files that open later: an eighth of all, and at least these.
const FEWEST_KEPT_FREE: usize = 24;

/// Raises the soft limit of open files as far as the hard one allows, and answers how many connections fit below it.
pub(crate) fn most_connections() -> usize {
    let wanted = u64::try_from(MOST_CONNECTIONS * 5 / 4).unwrap_or(u64::MAX);
    let limit = match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot see how many files may be open; assuming 1024");
            1024
        }
    };
    let connections = fit_below(limit, open_now());
    if connections < MOST_CONNECTIONS {
        tracing::info!(
            open_files = limit,
            connections,
            "the limit of open files bounds the connections (ulimit -n, LimitNOFILE)"
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

/// Descriptors that are open now; a usual number where the system does not list them.
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
