//! Models, versions, aliases and the artifacts behind them.
