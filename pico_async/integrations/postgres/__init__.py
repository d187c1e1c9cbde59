"""A ledger in PostgreSQL that many workers share."""

from pico_async.integrations.postgres.ledger import LedgerRecord as LedgerRecord, PostgresLedger as PostgresLedger
