//! A file system that fails when a test wants it to. Per thread.

use super::disk::Call;
use std::cell::RefCell;
use std::io;
use std::os::unix::fs::FileExt;

/// What a test does about a call: `Ok` lets it happen.
type Before = Box<dyn FnMut(&Call<'_>) -> io::Result<()>>;
/// What a test notes about a call that has happened.
type After = Box<dyn FnMut(&Call<'_>)>;

thread_local! {
    static HOOKS: RefCell<Option<(Before, After)>> = const { RefCell::new(None) };
}

/// Removes the hooks when the test is over.
pub(crate) struct Watched(());

impl Drop for Watched {
    fn drop(&mut self) {
        HOOKS.set(None);
    }
}

/// Watches the calls of this thread, until the result is dropped.
pub(super) fn watch(
    before: impl FnMut(&Call<'_>) -> io::Result<()> + 'static,
    after: impl FnMut(&Call<'_>) + 'static,
) -> Watched {
    HOOKS.set(Some((Box::new(before), Box::new(after))));
    Watched(())
}

/// Lets calls `from..to` of this thread (counted from now) fail, as on a disk that is full for a while: of what is to
/// be written, half arrives.
pub(crate) fn fail(from: usize, to: usize) -> Watched {
    let mut count = 0;
    let before = move |call: &Call<'_>| {
        count += 1;
        if !(from..to).contains(&(count - 1)) {
            return Ok(());
        }
        if let Call::Write { file, bytes, at } = call {
            file.write_all_at(bytes.get(..bytes.len() / 2).unwrap_or_default(), *at)?;
        }
        Err(io::ErrorKind::StorageFull.into())
    };
    watch(before, |_| ())
}

/// How many calls `run` makes.
pub(crate) fn count(run: impl FnOnce()) -> usize {
    let total = std::rc::Rc::new(std::cell::Cell::new(0));
    let counter = total.clone();
    let watched = watch(
        move |_| {
            counter.set(counter.get() + 1);
            Ok(())
        },
        |_| (),
    );
    run();
    drop(watched);
    total.get()
}

pub(super) fn before(call: &Call<'_>) -> io::Result<()> {
    HOOKS.with_borrow_mut(|hooks| hooks.as_mut().map_or(Ok(()), |(before, _)| before(call)))
}

pub(super) fn after(call: &Call<'_>, happened: bool) {
    if happened {
        HOOKS.with_borrow_mut(|hooks| hooks.iter_mut().for_each(|(_, after)| after(call)));
    }
}
