//! The rules one by one, and thousands of random sets beside a second, simpler evaluation.

mod kept;
mod random;
mod reference;
mod rules;
mod world;
