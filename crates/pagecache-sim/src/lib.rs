//! Simulated faulty storage, a reference model and drivers over them.
