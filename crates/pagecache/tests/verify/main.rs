//! What a verification promises: sound stores, crashed ones included, have no problem, and damage is named by its place.
#![cfg(not(loom))]

mod checkpoints;
mod harness;
mod images;
mod records;
