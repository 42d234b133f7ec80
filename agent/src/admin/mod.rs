//! The local admin socket (owner only) and the subcommands that speak to it.
