//! Types into responses.

mod bearer_error;
mod json;
mod page;
mod problem;
mod redirect;
mod token_error;

pub use bearer_error::bearer_error;
pub use json::{json, json_text, no_store, published};
pub use page::{PAGE_CSP, page};
pub use problem::{Problem, Why, problem, problem_details, unavailable};
pub use redirect::see_other;
pub use token_error::token_error;
