//! What survives a crash: ledger, chunk store, spool.
