//! The pipeline on passes made by hand.
