-- Which visits the ledger needs is asked by click ID.
create index touches_click_id on touches (click_id);
create index abandoned_click_id on abandoned (click_id) where click_id is not null;
