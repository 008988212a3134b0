// SPDX-License-Identifier: Apache-2.0
#include "commands.hpp"

#include <sara/sara.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapters.hpp"
#include "assess.hpp"
#include "checkpoint.hpp"
#include "dataset.hpp"
#include "engine.hpp"
#include "finetune.hpp"
#include "inspect.hpp"
#include "picture.hpp"
#include "random.hpp"

namespace unet {
namespace {

/// Everything that the result depends on, to be kept beside it.
[[nodiscard]] nlohmann::json record_of(finetune_command const& how) {
  auto const& t = how.tuning;
  return {{"pictures", how.images.empty() ? how.style : how.images.string()},
          {"method", t.method},
          {"selector", t.selector},
          {"fraction", t.fraction},
          {"threshold", t.threshold ? nlohmann::json(*t.threshold) : nlohmann::json()},
          {"rate", t.highest_rate()},
          {"steps", t.steps},
          {"warmup", t.warm_up},
          {"batch", t.batch},
          {"nuclear", t.nuclear},
          {"nuclear-matrices", t.nuclear_matrices},
          {"reselect", t.reselect},
          {"drop-label", t.drop_label},
          {"drop-caption", t.drop_caption},
          {"images-limit", t.images_limit},
          {"seed", t.seed},
          {"device", how.machine.device},
          {"precision", how.machine.precision}};
}

/// @throws  std::runtime_error unless `file` records the same settings
void require_same_settings(std::filesystem::path const& file, nlohmann::json const& now) {
  std::ifstream stream{file};
  if (!stream) throw std::runtime_error{file.string() + ": expected the settings of a run to resume, got no file"};
  auto const then = nlohmann::json::parse(stream, nullptr, false);
  for (auto const& [name, value] : now.items())
    if (!then.is_object() || !then.contains(name) || then[name] != value)
      throw std::runtime_error{file.string() + ": expected the settings of the run to resume, got another " + name +
                               ", " + value.dump()};
}

[[nodiscard]] int label_of(std::vector<std::string> const& names, std::string const& text) {
  auto const found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<int>(found - names.begin());
  int number = -1;
  auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed == std::errc{} && end == text.data() + text.size() && number >= 0 && number < class_count) return number;
  std::string all;
  for (auto const& name : names) {
    if (!all.empty()) all += ", ";
    all += name;
  }
  throw std::invalid_argument{"expected a label among " + all + ", got '" + text + "'"};
}

}  // namespace

checkpoint load_model(sara::host const& backend, model_files const& files) {
  auto loaded = load_checkpoint(files.base, backend.threads());
  apply_adapters(backend, *loaded.model, files.adapters, files.scales);
  return loaded;
}

void run(finetune_command const& how) {
  if (how.images.empty() == how.style.empty())
    throw std::invalid_argument{"expected either --style or --images, got " +
                                std::string{how.style.empty() ? "neither" : "both"}};
  sara::host const backend{how.threads};
  auto const base = load_checkpoint(how.base, backend.threads());
  auto& net = *base.model;  // a structured binding could not be captured below
  auto const machine = make_engine(how.machine, backend, net);
  auto data = how.images.empty() ? load_sheets(how.data, {how.style})
                                 : load_folder(how.images, read_emoji_index(how.data / "emoji.json").labels);
  data.tokenize(base.words);
  std::filesystem::create_directories(how.out);
  auto const settings = how.out / "settings.json", state = how.out / "state.safetensors";
  auto const record = record_of(how);
  if (how.resume)
    require_same_settings(settings, record);
  else
    std::ofstream{settings} << record.dump(2) << '\n';

  std::printf("%zu pictures to learn from, %zu held out\n", data.train.size(), data.held_out.size());
  auto const report_loss = [&](char const* when) {
    if (!data.held_out.empty())
      std::printf("held-out loss %s: %.4f\n", when, mean_velocity_loss(*machine, data, data.held_out));
  };
  if (!how.resume) report_loss("before");
  auto const learned = fine_tune_with_progress(*machine, data, how.tuning, state, how.resume);
  if (learned.steps < how.tuning.steps) {
    std::printf("Stopped after step %lld. To go on, give the same command with --resume.\n",
                static_cast<long long>(learned.steps));
    return;
  }
  report_loss("after");
  auto const result = how.out / (how.tuning.full() ? "model.safetensors" : "adapter.safetensors");
  if (how.tuning.full())
    save_checkpoint(result, net, base.words);
  else
    static_cast<void>(sara::save(learned.adapter, result));
  std::filesystem::remove(state);
  std::printf("%lld of %lld weights learned; %s has %.2f MB\n", static_cast<long long>(learned.selected),
              static_cast<long long>(learned.tunable), result.string().c_str(),
              static_cast<double>(std::filesystem::file_size(result)) * 1e-6);
}

void run(sample_command const& how) {
  if (how.labels.empty() && how.captions.empty())
    throw std::invalid_argument{"expected --labels, --captions or both, got neither"};
  if (!how.labels.empty() && !how.captions.empty() && how.labels.size() != how.captions.size())
    throw std::invalid_argument{"expected as many labels as captions, got " + std::to_string(how.labels.size()) +
                                " and " + std::to_string(how.captions.size())};
  sara::host const backend{how.threads};
  auto const [net, words] = load_model(backend, how.model);
  auto const names = how.labels.empty() ? std::vector<std::string>{} : read_emoji_index(how.data / "emoji.json").labels;

  auto const rows = std::max(how.labels.size(), how.captions.size());
  std::vector<std::vector<int>> tokens(rows);
  prompts asked;
  for (std::size_t row = 0; row < rows; ++row) {
    if (!how.captions.empty()) tokens[row] = words.tokens(how.captions[row]);
    int const label = how.labels.empty() ? null_class : label_of(names, how.labels[row]);
    for (std::size_t i = 0; i < how.count; ++i) {
      asked.conditions.push_back({label, tokens[row]});
      asked.labels.push_back(label);
      asked.captions.push_back(how.captions.empty() ? how.labels[row] : how.captions[row]);
      asked.seeds.push_back(random_bits(how.seed, i));
    }
  }
  auto const images = sample_with_progress(*make_engine(how.machine, backend, *net), asked, how.drawing);
  auto const title = how.model.base.filename().string();
  auto const subtitle = std::to_string(how.model.adapters.size()) + " adapters, seed " + std::to_string(how.seed);
  panel const all{title, subtitle, images};
  write_png(how.out, draw_panels({&all, 1}, asked.captions, static_cast<int>(how.count)));
  std::printf("%zu pictures are in %s\n", asked.seeds.size(), how.out.string().c_str());
}

void run(evaluate_command const& how) {
  sara::host const backend{how.threads};
  auto const [net, words] = load_model(backend, how.model);
  auto data = load_sheets(how.data, {how.style});
  data.tokenize(words);
  assessor const assess{backend.threads(), data, how.data / "classifier.safetensors", how.seed, how.drawing};
  auto const machine = make_engine(how.machine, backend, *net);
  std::printf("%s\n", figures_table({how.style}, {assess(*machine)}).c_str());
}

void run(inspect_command const& how) {
  if (!how.adapter.empty()) return inspect_adapter(how.adapter);
  sara::thread_pool pool{1};
  inspect_weights(*load_checkpoint(how.base, pool).model, how.thresholds);
}

}  // namespace unet
