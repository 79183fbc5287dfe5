//! Faults on purpose, and what comes of them: begun by a schedule, a person or a campaign, all on one way. Never knows how a gateway
//! does it, or how a detector finds it out.
//!
//! - `experiment`: what is done to what, for how long, and what must hold meanwhile; `schedule`: when, as a pure function
//! - `compose`: which faults may be there together, and whose turn it is
//! - `hands`: the fault begun, kept up and ended where it takes place; it ends by itself when nobody keeps it up
//! - `controller`: one event from its turn to its recovery; `steady`: whether all is well; `impact`: what it did to users, and who noticed
//! - `book`: every event, in a journal; `score`: a campaign of all kinds

mod book;
mod compose;
mod controller;
mod experiment;
mod hands;
mod impact;
mod schedule;
pub mod score;
mod steady;

pub use book::{Book, Event, Outcome, Source};
pub use controller::{Controller, Refused};
pub use experiment::{ChaosConfig, Experiment, Fault, LONGEST_PAUSE, Schedule};
pub use hands::{Boxed, Hands, RealHands};
pub use steady::{Ask, Rows};
