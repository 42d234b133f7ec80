//! REST views: what `/api/v1` says and takes, shared by the control plane, the command line and the tests.
