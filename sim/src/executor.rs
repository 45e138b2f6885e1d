//! The executor: runs tasks on one thread in virtual time.
//!
//! Promises: the same seed and the same program give the same order of polls, the same random numbers and the same
//! [`Simulator::hash`]. Time moves only when no task can run; then it jumps to the next timer. The order in which ready
//! tasks run is drawn from the seed, so that seeds explore interleavings.
//!
//! Limits: whatever a task does beyond the node's `runtime` seam (threads, the real clock, random hash maps) is out of
//! its sight. A panic in a task is not caught: it ends the run, which is what a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use dinhba_node::runtime::{self, JoinHandle, NodeScope, Simulated, TimerId};
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What the nodes' clocks show when a simulation begins: 2026-01-01, 00:00 UTC.
const START_UTC_MS: i64 = 1_767_225_600_000;

/// Owns a simulation; dropping it drops all tasks.
pub struct Simulator {
    handle: Handle,
}

/// Reaches into a running simulation, from its own tasks too; clones are the same.
#[derive(Clone)]
pub struct Handle(Arc<Core>);

struct Core {
    state: Mutex<State>,
    ready: Arc<Ready>,
    /// The number and the name of the last poll, for whoever watches from another thread.
    pulse: Mutex<(u64, &'static str)>,
}

/// Within one instant of virtual time so many polls are more than all nodes together can have to do: some tasks wake one
/// another without end, and the run is ended.
const POLLS_AT_ONCE_MAX: u64 = 5_000_000;

struct State {
    now: Duration,
    /// Draws the order of ready tasks.
    order: ChaCha8Rng,
    /// Answers the nodes' questions for randomness; apart from `order`, so that one more task shifts no id.
    chance: ChaCha8Rng,
    tasks: BTreeMap<u64, Task>,
    task_next: u64,
    timers: BTreeMap<(Duration, TimerId), Waker>,
    deadlines: BTreeMap<TimerId, Duration>,
    timer_next: u64,
    current: NodeScope,
    clocks: BTreeMap<NodeScope, Clock>,
    /// The ready tasks of nodes that are held.
    paused: BTreeMap<NodeScope, BTreeSet<u64>>,
    events: blake3::Hasher,
    polls: u64,
    /// How many there were when time last moved.
    polls_before: u64,
}

/// A wall clock that is wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    offset_ms: i64,
    /// Parts in a million that it runs fast since `since`.
    drift_ppm: i64,
    since: Duration,
}

impl Clock {
    fn off_by_ms(&self, now: Duration) -> i64 {
        let since = i64::try_from((now.saturating_sub(self.since)).as_millis()).unwrap_or(i64::MAX);
        self.offset_ms + (i128::from(since) * i128::from(self.drift_ppm) / 1_000_000) as i64
    }
}

struct Task {
    scope: NodeScope,
    name: &'static str,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    /// The same at every poll: who keeps it sees that it still fits, and timers stay as they are.
    waker: Waker,
}

#[derive(Default)]
struct Ready {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    order: Vec<u64>,
    members: BTreeSet<u64>,
}

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ready {
    fn push(&self, task: u64) {
        let mut queue = lock(&self.queue);
        if queue.members.insert(task) {
            queue.order.push(task);
        }
    }

    fn take(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        let mut queue = lock(&self.queue);
        let count = queue.order.len() as u64;
        // One candidate draws nothing: a run's random numbers depend on its choices alone.
        let place = if count > 1 { rng.next_u64() % count } else { 0 };
        let place = usize::try_from(place).unwrap_or(0);
        if queue.order.is_empty() {
            return None;
        }
        let task = queue.order.swap_remove(place);
        queue.members.remove(&task);
        Some(task)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.task);
    }
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs one ready task, or lets time jump to the next timer not after `limit`; false if there is neither.
    fn step(&self, limit: Duration) -> bool {
        let mut state = self.state();
        if state.polls - state.polls_before > POLLS_AT_ONCE_MAX {
            return false;
        }
        if let Some(id) = self.ready.take(&mut state.order) {
            self.poll(state, id);
            return true;
        }
        let Some((&(deadline, _), _)) = state.timers.first_key_value() else { return false };
        if deadline > limit {
            return false;
        }
        state.now = state.now.max(deadline);
        state.polls_before = state.polls;
        let now = state.now;
        let mut due = Vec::new();
        while let Some(entry) = state.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, timer), waker) = entry.remove_entry();
            state.deadlines.remove(&timer);
            due.push(waker);
        }
        drop(state);
        due.into_iter().for_each(Waker::wake);
        true
    }

    fn poll(&self, mut state: MutexGuard<'_, State>, id: u64) {
        let now = state.now;
        // A task that has ended may still be woken.
        let State { tasks, paused, .. } = &mut *state;
        let Some(task) = tasks.get_mut(&id) else { return };
        if let Some(held) = paused.get_mut(&task.scope) {
            held.insert(id);
            return;
        }
        let Some(mut future) = task.future.take() else { return };
        let (scope, name, waker) = (task.scope, task.name, task.waker.clone());
        state.polls += 1;
        state.events.update(&nanos(now).to_le_bytes());
        state.events.update(&id.to_le_bytes());
        state.events.update(name.as_bytes());
        state.current = scope;
        *lock(&self.pulse) = (state.polls, name);
        drop(state);

        let result = future.as_mut().poll(&mut Context::from_waker(&waker));

        let mut state = self.state();
        match state.tasks.get_mut(&id) {
            Some(task) if result.is_pending() => task.future = Some(future),
            // Ended, or killed by itself: dropped without the lock, since what it owns may call us.
            _ => {
                state.tasks.remove(&id);
                drop(state);
                drop(future);
                state = self.state();
            }
        }
        state.current = NodeScope::default();
    }

    fn spawn_in(&self, scope: NodeScope, name: &'static str, future: BoxFuture<'static, ()>) {
        let mut state = self.state();
        let id = state.task_next;
        state.task_next += 1;
        let waker = Waker::from(Arc::new(TaskWaker { task: id, ready: Arc::clone(&self.ready) }));
        state.tasks.insert(id, Task { scope, name, future: Some(future), waker });
        drop(state);
        self.ready.push(id);
    }

    /// Drops every task that `which` names, and those that they start while they are dropped.
    fn drop_tasks(&self, which: impl Fn(NodeScope) -> bool) {
        loop {
            let mut state = self.state();
            let ids: Vec<u64> = state.tasks.iter().filter(|(_, task)| which(task.scope)).map(|(&id, _)| id).collect();
            let dropped: Vec<Task> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
            drop(state);
            if dropped.is_empty() {
                return;
            }
            drop(dropped);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Simulated for Core {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let scope = self.state().current;
        self.spawn_in(scope, name, task);
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn utc_ms(&self) -> i64 {
        let state = self.state();
        let offset = state.clocks.get(&state.current).map_or(0, |clock| clock.off_by_ms(state.now));
        START_UTC_MS + i64::try_from(state.now.as_millis()).unwrap_or(i64::MAX / 2) + offset
    }

    fn register_timer(&self, at: Duration, waker: Waker) -> TimerId {
        let mut state = self.state();
        let timer = TimerId(state.timer_next);
        state.timer_next += 1;
        state.timers.insert((at, timer), waker);
        state.deadlines.insert(timer, at);
        timer
    }

    fn cancel_timer(&self, timer: TimerId) {
        let mut state = self.state();
        if let Some(deadline) = state.deadlines.remove(&timer) {
            let waker = state.timers.remove(&(deadline, timer));
            drop(state);
            drop(waker);
        }
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.state().chance.fill_bytes(bytes);
    }
}

impl Simulator {
    /// A simulation from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let rng = |stream: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            rng
        };
        let state = State {
            now: Duration::ZERO,
            order: rng(0),
            chance: rng(1),
            tasks: BTreeMap::new(),
            task_next: 0,
            timers: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            timer_next: 0,
            current: NodeScope::default(),
            clocks: BTreeMap::new(),
            paused: BTreeMap::new(),
            events: blake3::Hasher::new(),
            polls: 0,
            polls_before: 0,
        };
        Simulator {
            handle: Handle(Arc::new(Core { state: Mutex::new(state), ready: Arc::default(), pulse: Mutex::default() })),
        }
    }

    /// For the simulation's own tasks.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs `story` in the scope of no node, and everything it starts, until it ends; `None` if nothing can run any
    /// more, or virtual time would pass `limit`.
    pub fn run<T: Send + 'static>(
        &mut self,
        limit: Duration,
        story: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let core = Arc::clone(&self.handle.0);
        let _installed = runtime::install(Arc::clone(&core) as Arc<dyn Simulated>);
        let mut story = runtime::spawn("story", story);
        loop {
            // The handle is a future of its own; here it is only looked at.
            let result = std::pin::Pin::new(&mut story).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = result {
                return result.ok();
            }
            if !core.step(limit) {
                return None;
            }
        }
    }

    /// Calls `act` in the scope of no node, when nothing runs: before the first task or after the last.
    pub fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        let _installed = runtime::install(Arc::clone(&self.handle.0) as Arc<dyn Simulated>);
        act()
    }

    /// A hash over every poll so far (when, which task) and all that was [recorded](Handle::record).
    #[must_use]
    pub fn hash(&self) -> String {
        self.handle.0.state().events.finalize().to_hex().to_string()
    }

    /// How many polls there were, and how much virtual time passed.
    #[must_use]
    pub fn extent(&self) -> (u64, Duration) {
        let state = self.handle.0.state();
        (state.polls, state.now)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let core = Arc::clone(&self.handle.0);
        let _installed = runtime::install(Arc::clone(&core) as Arc<dyn Simulated>);
        core.drop_tasks(|_| true);
    }
}

impl Handle {
    /// Runs `future` as a task of the node `scope`; what it starts belongs to that node too.
    pub fn spawn_in<F>(&self, scope: NodeScope, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let before = std::mem::replace(&mut self.0.state().current, scope);
        let joined = {
            let _installed = runtime::install(Arc::clone(&self.0) as Arc<dyn Simulated>);
            runtime::spawn(name, future)
        };
        self.0.state().current = before;
        joined
    }

    /// Ends a node at once: all its tasks are dropped where they wait.
    pub fn kill(&self, scope: NodeScope) {
        self.0.state().paused.remove(&scope);
        let _installed = runtime::install(Arc::clone(&self.0) as Arc<dyn Simulated>);
        self.0.drop_tasks(|task| task == scope);
    }

    /// The number and the name of the task's poll that began last. Waits for nothing that a task may hold.
    #[must_use]
    pub fn pulse(&self) -> (u64, &'static str) {
        *lock(&self.0.pulse)
    }

    /// Virtual time since the simulation began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.state().now
    }

    /// Stops a node's tasks where they are, like a virtual machine that is held; its timers and messages wait.
    pub fn pause(&self, scope: NodeScope) {
        self.0.state().paused.entry(scope).or_default();
    }

    /// Lets a paused node go on.
    pub fn resume(&self, scope: NodeScope) {
        let waiting = self.0.state().paused.remove(&scope).unwrap_or_default();
        waiting.into_iter().for_each(|task| self.0.ready.push(task));
    }

    /// Sets how far a node's wall clock is ahead (or, negative, behind).
    pub fn set_clock_offset_ms(&self, scope: NodeScope, offset: i64) {
        let mut state = self.0.state();
        let since = state.now;
        state.clocks.insert(scope, Clock { offset_ms: offset, drift_ppm: 0, since });
    }

    /// Lets a node's wall clock run fast (or, negative, slow) from now on, by parts in a million; what it is off by stays.
    pub fn set_clock_drift_ppm(&self, scope: NodeScope, drift_ppm: i64) {
        let mut state = self.0.state();
        let since = state.now;
        let offset_ms = state.clocks.get(&scope).map_or(0, |clock| clock.off_by_ms(since));
        state.clocks.insert(scope, Clock { offset_ms, drift_ppm, since });
    }

    /// Adds something that happened to the event log's hash.
    pub fn record(&self, event: &[u8]) {
        let mut state = self.0.state();
        let now = nanos(state.now);
        state.events.update(&now.to_le_bytes());
        state.events.update(&(event.len() as u64).to_le_bytes());
        state.events.update(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3600);

    #[test]
    fn an_hour_passes_in_no_time_and_timeouts_are_exact() {
        let mut simulator = Simulator::new(1);
        let waited = simulator.run(LIMIT, async {
            let started = runtime::now();
            let never = runtime::timeout(Duration::from_secs(1800), std::future::pending::<()>()).await;
            assert!(never.is_err());
            runtime::now() - started
        });
        assert_eq!(waited, Some(Duration::from_secs(1800)));
    }

    #[test]
    fn what_waits_for_nothing_and_what_passes_the_limit_end_the_run() {
        assert_eq!(Simulator::new(1).run(LIMIT, std::future::pending::<()>()), None);
        assert_eq!(Simulator::new(1).run(Duration::from_secs(1), async { runtime::sleep(LIMIT).await }), None);
    }

    #[test]
    fn seeds_differ_in_the_order_of_tasks_and_repeat_it() {
        let order = |seed| {
            let mut simulator = Simulator::new(seed);
            let seen = Arc::new(Mutex::new(Vec::new()));
            let result = Arc::clone(&seen);
            simulator.run(LIMIT, async move {
                let tasks = (0..10).map(|number| {
                    let seen = Arc::clone(&seen);
                    runtime::spawn("number", async move { lock(&seen).push((number, runtime::random_u64())) })
                });
                for task in tasks.collect::<Vec<_>>() {
                    task.await.expect("it ends");
                }
            });
            let order = lock(&result).clone();
            (order, simulator.hash())
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn killing_a_node_drops_its_tasks_and_theirs_only() {
        let mut simulator = Simulator::new(1);
        let handle = simulator.handle();
        let (killed, lived) = (NodeScope(1), NodeScope(2));
        let result = simulator.run(LIMIT, async move {
            let child = handle.spawn_in(killed, "parent", async {
                (runtime::spawn("child", runtime::sleep(Duration::from_secs(10))),)
            });
            let (child,) = child.await.expect("it ends at once");
            let other = handle.spawn_in(lived, "other", runtime::sleep(Duration::from_secs(10)));
            handle.set_clock_offset_ms(lived, -5000);
            let clock = handle.spawn_in(lived, "clock", async { runtime::utc_ms() }).await;
            handle.kill(killed);
            (child.await.is_err(), other.await.is_ok(), clock.expect("it ends at once"))
        });
        assert_eq!(result, Some((true, true, START_UTC_MS - 5000)));
    }
}
