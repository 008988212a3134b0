// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace sara {

namespace detail {

/// Processors that the calling thread may run on, at least one: fewer than the machine has under taskset or in a
/// container's cpuset.
[[nodiscard]] inline int usable_processors() {
#ifdef __linux__
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) == 0) return std::max(1, CPU_COUNT(&usable));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace detail

/// A fixed set of worker threads that runs numbered tasks; the only place of the library that
/// starts threads.
///
/// The caller works too, so a pool of one thread starts none. Tasks are numbered and must not
/// depend on which thread runs them: results are then the same bits for any thread count.
/// A call from inside a task, or while another thread uses the pool, runs on the calling thread
/// alone, so nesting and use from a user's own threads are safe and never deadlock.
/// @par Complexity  one atomic increment per task, two wake-ups per call
class thread_pool {
 public:
  /// Fewer threads than asked for where the system gives no more of them.
  /// @param threads  threads that work, the caller included; 0 means one for each processor of the calling thread
  explicit thread_pool(int threads = 0) {
    int const count = threads > 0 ? threads : detail::usable_processors();
    workers_.reserve(static_cast<std::size_t>(count - 1));
    try {
      for (int i = 1; i < count; ++i) workers_.emplace_back([this] { work(); });
    } catch (...) {  // no thread, or no memory for one: those that run go on, as results do not depend on their number
    }
  }

  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;

  ~thread_pool() {
    {
      std::lock_guard const lock{mutex_};
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  /// Threads that work on a call, the caller included.
  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// Calls f(0) … f(tasks - 1), each once, in any order, and returns when all have ended.
  /// @throws  what the first failing task threw, after every running task has ended
  template <class F>
  void parallel_for(std::int64_t tasks, F&& f) {
    if (tasks <= 0) return;
    if (tasks == 1 || workers_.empty() || inside_task_ || !caller_.try_lock()) {
      for (std::int64_t i = 0; i < tasks; ++i) f(i);
      return;
    }
    std::lock_guard const caller{caller_, std::adopt_lock};
    using function = std::remove_reference_t<F>;
    {
      std::lock_guard const lock{mutex_};
      call_ = [](void* object, std::int64_t i) { (*static_cast<function*>(object))(i); };
      object_ = const_cast<void*>(static_cast<void const*>(std::addressof(f)));
      tasks_ = tasks;
      next_.store(0, std::memory_order_relaxed);
      open_ = true;
      round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    run_tasks();
    std::exception_ptr failure;
    {
      // Only workers that joined are waited for: one that the system has not scheduled yet finds the round closed.
      std::unique_lock lock{mutex_};
      open_ = false;
      done_.wait(lock, [this] { return busy_ == 0; });
      failure = std::exchange(failure_, nullptr);
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      // Calls follow each other closely in practice: looking a little longer is cheaper than being woken up.
      for (int i = 0; i < spins && round_.load(std::memory_order_acquire) == seen; ++i) pause();
      {
        std::unique_lock lock{mutex_};
        wake_.wait(lock, [&] { return stopping_ || round_.load(std::memory_order_relaxed) != seen; });
        if (stopping_) return;
        seen = round_.load(std::memory_order_relaxed);
        if (!open_) continue;
        ++busy_;
      }
      run_tasks();
      {
        std::lock_guard const lock{mutex_};
        if (--busy_ == 0) done_.notify_one();
      }
    }
  }

  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  void run_tasks() noexcept {
    inside_task_ = true;
    for (std::int64_t i = 0; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) {
      try {
        call_(object_, i);
      } catch (...) {
        std::lock_guard const lock{mutex_};
        if (!failure_) failure_ = std::current_exception();
        next_.store(tasks_, std::memory_order_relaxed);
      }
    }
    inside_task_ = false;
  }

  std::mutex caller_;  // held by the thread whose call the workers serve
  std::mutex mutex_;   // guards everything below
  std::condition_variable wake_;
  std::condition_variable done_;
  void (*call_)(void*, std::int64_t) = nullptr;
  void* object_ = nullptr;
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_{0};
  static constexpr int spins = 2000;
  std::atomic<std::uint64_t> round_{0};
  bool open_ = false;  // whether workers may still join the round
  int busy_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> workers_;
  inline static thread_local bool inside_task_ = false;
};

}  // namespace sara
