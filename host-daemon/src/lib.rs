//! Serves regions: validates what devices ask for and does the I/O.
