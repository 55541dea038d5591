//! One conformance suite, instantiated for every backend.
