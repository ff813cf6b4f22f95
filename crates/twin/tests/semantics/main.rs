//! What the twin computes, held against hand-worked examples, published figures, queueing theory and a slow second
//! implementation.

mod conservation;
mod ec2;
mod environment;
mod golden;
mod invalid;
mod mmc;
mod parallel;
mod perturbation;
mod published;
mod random;
mod reference;
