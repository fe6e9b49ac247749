-- Grows with every change of the settings, in the transaction of the change. Transactions of the ledger compare it with the one that they loaded.
create table settings_revision (
    id bigint not null primary key,           -- always 1
    revision bigint not null
);
insert into settings_revision (id, revision) values (1, 1);
