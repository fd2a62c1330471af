-- What callers note about a device, and the time zone of its clock.

-- attributes: numbers and texts by name, written as in every answer, so they are kept as text and not as jsonb.
-- tz: the IANA name of the zone of its times without offset; null: UTC.
alter table device
    add column attributes json not null default '{}',
    add column tz text collate "C";
