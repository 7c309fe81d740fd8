//! Histories of clients of the key-value store, and checks that the store may give these answers.
//!
//! | module | checks |
//! |---|---|
//! | `registers` | each key alone, as a register: only values and time count |
//! | `revisions` | necessary rules for the revisions in the headers, without a search |
//! | `witness` | that the store gives all answers in the order of the revisions |
//! | `whole` | that any order exists: a search over whole calls, for small histories |
//! | `text` | nothing: it writes the history of a register in a form that porcupine reads |

pub mod calls;
pub mod registers;
pub mod revisions;
pub mod text;
pub mod whole;
pub mod witness;
