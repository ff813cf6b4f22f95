//! What the twin computes, held against hand-worked examples, published figures, queueing theory and a slow second
//! implementation.

mod conservation;
mod environment;
mod golden;
mod invalid;
mod mmc;
mod published;
mod random;
mod reference;
