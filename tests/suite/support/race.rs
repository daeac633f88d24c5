//! Many at once.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Barrier;

/// How many take part in a race.
pub const RACERS: usize = 50;

/// Starts `racers` tasks that begin together; their results, by number.
pub async fn race<T, F>(racers: usize, run: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let line = Arc::new(Barrier::new(racers));
    let tasks: Vec<_> = (0..racers)
        .map(|number| {
            let (line, run) = (Arc::clone(&line), run(number));
            tokio::spawn(async move {
                line.wait().await;
                run.await
            })
        })
        .collect();
    let mut results = Vec::with_capacity(racers);
    for task in tasks {
        results.push(task.await.expect("no racer panics"));
    }
    results
}

/// How many of `all` are so.
pub fn count<T>(all: &[T], so: impl Fn(&T) -> bool) -> usize {
    all.iter().filter(|one| so(one)).count()
}
