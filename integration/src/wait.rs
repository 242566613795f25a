//! Waiting for something to become true, with a limit and a message that says what was waited for.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `question` again and again until it answers `Ok(Some(value))`; gives up after `limit` with the last thing known: the
/// error, or that the answer was still no. Each single question may take at most what is left of the limit.
pub async fn until<T>(what: &str, limit: Duration, mut question: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut last = String::from("it never answered");
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(PAUSE), question()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = "it did not".into(),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {}
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} until {what}: {last}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`] for a yes-or-no question.
pub async fn until_true(what: &str, limit: Duration, mut question: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    until(what, limit, async || Ok(question().await?.then_some(()))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_and_says_for_what_it_waited() {
        let mut asked = 0;
        let counted = until("three", Duration::from_secs(5), || {
            asked += 1;
            let now = asked;
            async move { Ok((now == 3).then_some(now)) }
        });
        assert_eq!(counted.await.unwrap(), 3);
        let never = until_true("pigs fly", Duration::from_millis(50), || async { Ok(false) }).await.unwrap_err();
        assert_eq!(never.to_string(), "waited 50ms until pigs fly: it did not");
        let broken = until_true("pigs fly", Duration::from_millis(50), || async { bail!("no pigs") }).await.unwrap_err();
        assert!(broken.to_string().ends_with("no pigs"));
    }
}
