//! The only entry point of the machine.

use crate::effect::Effect;
use crate::failure::Fatal;
use crate::input::Input;
use crate::machine::State;

impl State {
    /// Takes one input at `now_ms`, milliseconds of a clock that never goes back, and pushes its
    /// effects.
    ///
    /// # Errors
    /// When the member must stop.
    pub fn step(
        &mut self,
        now_ms: u64,
        input: Input,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fatal> {
        match input {
            Input::Apply(entries) => self.apply(now_ms, entries, &mut |_| {}, effects)?,
            Input::Tick => self.tick(now_ms, effects),
            Input::Idle => self.compact_slice(effects),
            Input::BackendDurable { batches, file } => {
                self.storage.file_bytes = file.size();
                self.storage.overlay.retire(batches, file);
                self.storage.store.attach(self.storage.overlay.view());
                self.publish(effects);
            }
            Input::Leadership(term, leader) => self.lead(now_ms, (term, leader), effects),
            Input::MemberVersions(versions) => self.learn_versions(versions),
            Input::Ask(id, question) => self.ask(now_ms, id, question, effects),
        }
        Ok(())
    }
}
