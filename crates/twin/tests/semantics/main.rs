//! What the twin computes, held against hand-worked examples, published figures and a slow second implementation.

mod conservation;
mod ec2;
mod environment;
mod golden;
mod invalid;
mod parallel;
mod perturbation;
mod published;
mod random;
mod reference;
