//! Schedules of random events against models of the server, with a count of what each client receives.
//! `HAUYNA_SCHEDULES` sets the number of schedules, `HAUYNA_SEED` repeats one.

mod churn;
mod model;
mod nodes;
mod resubscribe;
mod schedule;
mod sizes;
mod users;
