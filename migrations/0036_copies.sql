-- Copies of the program take turns by advisory locks of PostgreSQL now, so that they write payments that have nothing to do with each other
-- at the same time. A copy of an older version must not write beside them: without these tables it cannot.
drop table ledgers;
drop table conversion_sums_turn;

-- One row, written by whoever asks whether the database takes what is written.
create table readiness (
    id bigint not null primary key,
    probes bigint not null
);
