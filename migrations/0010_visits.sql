-- Which visits the ledger needs is asked by click ID.
create index touches_click_id on touches (click_id);
create index abandoned_click_id on abandoned (click_id) where click_id is not null;

-- Checkouts that ended on a page with the tag: whose browser came back from paying. The tag's visit there names the session.
create table visit_sessions (
    session_id text not null,                 -- cs_…
    click_id text not null,
    at_ms bigint not null,
    constraint visit_sessions_key primary key (session_id, click_id)
);
create index visit_sessions_click_id on visit_sessions (click_id);
