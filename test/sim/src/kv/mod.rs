//! Histories of clients of the key-value store, and whether the store may have given these answers.
//!
//! | module | checks |
//! |---|---|
//! | `registers` | each key alone, as a register: only values and time count |
//! | `revisions` | the order by the revisions in the headers against time and content, one rule each |
//! | `witness` | that the order of the revisions is one in which the store gives all answers |
//! | `whole` | that there is an order at all: a search over whole calls, for small histories |
//! | `text` | nothing: it writes the history of a register in the form that porcupine reads |

pub mod calls;
pub mod registers;
pub mod revisions;
pub mod text;
pub mod whole;
pub mod witness;
