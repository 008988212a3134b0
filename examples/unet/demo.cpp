// SPDX-License-Identifier: Apache-2.0
#include "demo.hpp"

#include <sara/sara.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "assess.hpp"
#include "checkpoint.hpp"
#include "dataset.hpp"
#include "engine.hpp"
#include "finetune.hpp"
#include "picture.hpp"
#include "text.hpp"

namespace unet {
namespace {

/// The most memory that the process ever had, in bytes.
[[nodiscard]] std::int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{1024} * usage.ru_maxrss;
}

/// What the picture shows: things that a person tells apart at 32×32 pixels, in the last row some that no model has
/// seen.
[[nodiscard]] prompts showcase_of(dataset const& data, std::uint64_t seed) {
  prompts result;
  for (char const* name : {"grinning face", "crying face",  "smiling face with sunglasses",
                           "cat face",      "robot",        "red heart",
                           "thumbs up",     "frog",         "octopus",
                           "penguin",       "lady beetle",  "panda",
                           "cactus",        "tulip",        "cherries",
                           "red apple",     "hamburger",    "hot beverage",
                           "house",         "automobile",   "bus",
                           "sailboat",      "rocket",       "umbrella",
                           "pig",           "broken heart", "taco",
                           "baseball",      "train",        "light bulb"})
    if (auto const found = std::find(data.name.begin(), data.name.end(), name); found != data.name.end()) {
      auto const picture = static_cast<std::size_t>(found - data.name.begin());
      result.add(data, picture, seed);
      if (std::binary_search(data.held_out.begin(), data.held_out.end(), picture))
        result.captions.back() += " (held out)";
    }
  return result;
}

}  // namespace

void demo(demo_settings const& how) {
  using clock = std::chrono::steady_clock;
  auto const seconds_since = [](clock::time_point start) {
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  auto const start = clock::now();
  sara::host const backend{how.threads};
  auto [net, words] = load_checkpoint(how.base, backend.threads());
  auto data = load_sheets(how.data, {how.style});
  auto const machine = make_engine(how.machine, backend, *net);
  data.tokenize(words);
  std::filesystem::create_directories(how.out);
  assessor const assess{backend.threads(), data, how.data / "classifier.safetensors", how.seed, how.drawing};
  auto const shown = showcase_of(data, how.seed);

  std::puts("Drawing with the base model");
  auto const pictures_before = sample_with_progress(*machine, shown, how.drawing);
  auto const before = assess(*machine);

  std::printf("Learning %s from %zu pictures, on %s\n", how.style.c_str(), data.train.size(), machine->name().c_str());
  auto const begin = clock::now();
  auto const state = how.out / "state.safetensors";
  auto const learned = fine_tune_with_progress(*machine, data, how.tuning, state);
  auto const seconds = seconds_since(begin);
  if (learned.steps < how.tuning.steps) {
    std::filesystem::remove(state);
    std::printf("Stopped after step %lld; the demo begins anew next time.\n", static_cast<long long>(learned.steps));
    return;
  }

  std::puts("Drawing again, from the same seeds");
  auto const pictures_after = sample_with_progress(*machine, shown, how.drawing);
  auto const after = assess(*machine);

  auto const share = 100 * static_cast<double>(learned.selected) / static_cast<double>(learned.tunable);
  auto const bytes = sara::save(learned.adapter, how.out / "adapter.safetensors");
  std::array<panel, 2> const panels{
      {{"Before", "the base model, which never saw " + how.style, pictures_before},
       {"After",
        format("%lld steps on %.0f %% of the weights, %.0f s", static_cast<long long>(learned.steps), share, seconds),
        pictures_after}}};
  write_png(how.out / "before-after.png", draw_panels(panels, shown.captions, 6));
  auto const table =
      figures_table({"before", "after"}, {before, after}) +
      format("\n%lld of %lld weights learned (%.1f %%); the adapter has %.2f MB\n",
             static_cast<long long>(learned.selected), static_cast<long long>(learned.tunable), share,
             static_cast<double>(bytes) * 1e-6) +
      format("%lld steps in %.1f s, %.2f a second, on %s; everything in %.0f s\n",
             static_cast<long long>(learned.steps), seconds, static_cast<double>(learned.steps) / seconds,
             machine->name().c_str(), seconds_since(start)) +
      format("sara held %.1f MB beside the model; the process had at most %.0f MB\n",
             static_cast<double>(learned.memory.total()) * 1e-6, static_cast<double>(peak_memory()) * 1e-6);
  std::printf("\n%s\n", table.c_str());
  std::ofstream{how.out / "figures.txt"} << table;
  std::printf("Pictures, adapter and figures are in %s: before-after.png, adapter.safetensors, figures.txt\n",
              how.out.string().c_str());
}

}  // namespace unet
