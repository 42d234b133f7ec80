//! Who this device is: key, certificate, joining, renewal, signatures.
