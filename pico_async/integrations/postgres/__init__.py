"""The ledger of a bulk send in PostgreSQL."""

from pico_async.integrations.postgres.ledger import PostgresLedger as PostgresLedger
