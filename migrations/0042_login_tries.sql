-- How often somebody tried to sign in as a user, within the last quarter of an hour: kept here, so that neither a restart nor
-- another copy of the program forgets it.
create table login_tries (
    user_id text not null primary key references users (id),
    began_at_ms bigint not null,              -- of the first try that counts
    tries bigint not null
);
