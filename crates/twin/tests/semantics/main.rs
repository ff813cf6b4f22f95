//! What the twin computes, held against hand-worked examples, published figures and a slow second implementation.

mod conservation;
mod environment;
mod golden;
mod invalid;
mod published;
mod random;
mod reference;
