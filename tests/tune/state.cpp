// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/file.hpp>
#include <sara/select/ranked.hpp>

#include "../support/compare.hpp"
#include "../support/mlp.hpp"
#include "../support/recipe.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::test::complaint;
using sara::test::golden_samples;
using sara::test::make_tuner;
using sara::test::mlp;
using sara::test::scratch;
using recipe = sara::test::recipe<>;

constexpr int all_steps = 12;

/// Everything that a state must bring back: the norm, a reselection after step 6, a falling rate, clipping.
recipe const settings{.lambda = 5e-3,
                      .min_side = 5,
                      .reselect = {6},
                      .rate = {.rate = 0.02, .steps = all_steps},
                      .clip = 0.3,
                      .filter = {.exclude = {"fc2.bias"}}};

template <class Tuner, class Model>
void backward(Tuner& tuner, Model const& model, int step) {
  model.backward(tuner, golden_samples<float>(8 * (step % 8), 8));
}

template <class Tuner, class Model>
void train(Tuner& tuner, Model const& model, int first, int last) {
  for (int step = first; step < last; ++step) {
    backward(tuner, model, step);
    tuner.step();
  }
}

/// The model after all steps without interruption.
template <sara::Scalar T>
mlp<T> uninterrupted() {
  mlp<T> model;
  auto tuner = make_tuner(model.weights(), settings);
  train(tuner, model, 0, all_steps);
  return model;
}

/// A state file taken apart, to be falsified and written again.
struct forged {
  nlohmann::json state;
  std::map<std::string, std::vector<float>> columns;
  std::map<std::string, std::vector<std::int32_t>> positions;
  std::string format = "sara.state";

  explicit forged(std::filesystem::path const& path) {
    auto const file = sara::safetensors::load(path);
    state = nlohmann::json::parse(file.metadata("state"));
    for (auto const& [name, tensor] : file.tensors())
      if (tensor.type == "F32")
        columns[name] = file.read<float>(name);
      else
        positions[name] = file.read<std::int32_t>(name);
  }

  template <sara::Real R = float>
  void write(std::filesystem::path const& path) const {
    sara::safetensors_writer file;
    for (auto const& [name, column] : columns) file.add(name, std::vector<R>(column.begin(), column.end()));
    for (auto const& [name, list] : positions) file.add(name, list);
    file.set_metadata("format", format);
    file.set_metadata("format_version", "1");
    file.set_metadata("state", state.dump());
    file.write(path);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a run that is interrupted ends as one that is not, bit by bit", T, float, sara::bfloat16,
                   sara::float16) {
  scratch const folder;
  auto const file = folder / "state";
  auto const expected = uninterrupted<T>();
  CHECK(!expected.same_as(mlp<T>{}));
  for (int const stop : {0, 1, 5, 6, 7, all_steps}) {  // before, at and after the reselection
    CAPTURE(stop);
    mlp<T> before;
    auto first = make_tuner(before.weights(), settings);
    train(first, before, 0, stop);
    first.save_state(file);

    mlp<T> model;  // the base weights again
    // [resume]
    auto tuner = make_tuner(model.weights(), settings);  // as at the start of the run
    tuner.load_state(file);                              // and on from where it stopped
    // [/resume]
    CHECK(tuner.steps() == stop);
    CHECK(tuner.learning() == first.learning());
    CHECK(tuner.selected() == first.selected());
    CHECK(tuner.memory().total() <= first.memory().total());
    CHECK(model.same_as(before));
    train(tuner, model, stop, all_steps);
    CHECK(model.same_as(expected));
    train(first, before, stop, all_steps);  // saving changed nothing
    CHECK(before.same_as(expected));
  }
}

TEST_CASE_TEMPLATE("gradients of a step that is not done yet are saved too", T, float, sara::bfloat16) {
  scratch const folder;
  for (int const stop : {3, 9}) {
    mlp<T> before;
    auto first = make_tuner(before.weights(), settings);
    train(first, before, 0, stop);
    backward(first, before, stop);
    first.save_state(folder / "state");

    mlp<T> model;
    auto tuner = make_tuner(model.weights(), settings);
    tuner.load_state(folder / "state");
    tuner.step();
    train(tuner, model, stop + 1, all_steps);
    CHECK(model.same_as(uninterrupted<T>()));
  }
}

TEST_CASE("a state replaces all that a tuner did before") {
  scratch const folder;
  mlp<float> before;
  auto first = make_tuner(before.weights(), settings);
  train(first, before, 0, 4);
  first.save_state(folder / "state");

  mlp<float> model;
  auto elsewhere = settings;
  elsewhere.threshold = 0.2;  // another M, of which nothing may stay behind
  auto tuner = make_tuner(model.weights(), elsewhere);
  train(tuner, model, 2, 11);
  backward(tuner, model, 0);
  tuner.load_state(folder / "state");
  CHECK(model.same_as(before));
  CHECK(tuner.selected() == first.selected());
  CHECK(tuner.learning() == first.learning());
  for (std::size_t i = 0; i < first.tensors().size(); ++i)  // the next reselection goes by the one that M was made with
    CHECK(tuner.tensors()[i].threshold == first.tensors()[i].threshold);
}

TEST_CASE("a loaded state brings its rate, and leaves what is frozen") {
  scratch const folder;
  auto const steps_after_loading = [&](bool frozen) {
    mlp<float> model;
    auto const weights = model.weights();
    sara::fine_tuner first{sara::host{1}, weights, sara::below{.threshold = 0.01}};
    first.save_state(folder / "state");
    sara::fine_tuner tuner{sara::host{1}, weights, sara::below{.threshold = 0.02}};
    CHECK(tuner.base_rate() != first.base_rate());
    if (frozen) tuner.freeze("fc1.weight");
    tuner.load_state(folder / "state");
    CHECK(tuner.base_rate() == first.base_rate());
    return tuner["fc1.weight"].learns();
  };
  CHECK(steps_after_loading(false));
  CHECK(!steps_after_loading(true));
}

TEST_CASE("a state whose selection has no threshold is refused where a policy wants one") {
  scratch const folder;
  mlp<float> model;
  auto const weights = model.weights();
  sara::constant_rate const rate{.rate = 1e-3};
  sara::fine_tuner{sara::host{1}, weights, sara::random{.fraction = 0.1}, rate}.save_state(folder / "state");
  sara::fine_tuner tuner{sara::host{1}, weights, sara::below{.threshold = 0.05}, rate, sara::reselect_halfway{}};
  auto const selected = tuner.selected();
  CHECK(complaint<sara::value_error>([&] { tuner.load_state(folder / "state"); }, {"reselection", "threshold"}) == "");
  CHECK(tuner.selected() == selected);
}

TEST_CASE("a threshold that is infinite comes back") {
  scratch const folder;
  mlp<float> model;
  auto everything = settings;
  everything.threshold = std::numeric_limits<double>::infinity();
  make_tuner(model.weights(), everything).save_state(folder / "state");
  auto tuner = make_tuner(model.weights(), settings);
  tuner.load_state(folder / "state");
  for (auto const& tensor : tuner.tensors()) CHECK(tensor.threshold == everything.threshold);
}

TEST_CASE("an adapter of a resumed run holds what both parts learned") {
  scratch const folder;
  mlp<float> before;
  auto first = make_tuner(before.weights(), settings);
  train(first, before, 0, 8);
  first.save_state(folder / "state");
  mlp<float> model;
  auto tuner = make_tuner(model.weights(), settings);
  tuner.load_state(folder / "state");
  for (auto const& [name, tensor] : first.adapter().tensors) {
    auto const resumed = tuner.adapter().tensors.at(name);
    CHECK(resumed.positions == tensor.positions);
    CHECK(resumed.delta == tensor.delta);
    CHECK(resumed.base_hash == tensor.base_hash);
  }
}

TEST_CASE("a state that does not fit is refused, and nothing changes") {
  scratch const folder;
  auto const good = folder / "good";
  auto const bad = folder / "bad";
  {
    mlp<float> model;
    auto tuner = make_tuner(model.weights(), settings);
    train(tuner, model, 0, 7);
    tuner.save_state(good);
  }
  // the tuner under test is in the middle of something else: gradients wait for their step
  mlp<float> model;
  auto tuner = make_tuner(model.weights(), settings);
  train(tuner, model, 0, 3);
  backward(tuner, model, 3);
  auto const refused = [&]<class Error>(std::filesystem::path const& path, std::vector<std::string> parts) {
    parts.push_back(path.string());
    return complaint<Error>([&] { tuner.load_state(path); }, parts);
  };
  using sara::base_error;
  using sara::file_error;
  using sara::name_error;
  using sara::value_error;
  forged f{good};

  SUBCASE("no file") { CHECK(refused.operator()<file_error>(folder / "none", {}) == ""); }
  SUBCASE("cut short") {
    auto const whole = sara::test::read_file(good);
    for (std::size_t length = 0; length < whole.size(); length += 1 + whole.size() / 200) {
      sara::test::write_file(bad, whole.substr(0, length));
      CHECK(refused.operator()<file_error>(bad, {}) == "");
    }
  }
  SUBCASE("an adapter") {
    sara::save(tuner.adapter(), bad);
    CHECK(refused.operator()<file_error>(bad, {"expected format 'sara.state' 1, got 'sara.adapter'"}) == "");
  }
  SUBCASE("other base weights, though none that was selected") {
    mlp<float> other;
    other[2][0] += 1;
    auto another = make_tuner(other.weights(), settings);
    another.save_state(bad);
    CHECK(refused.operator()<base_error>(bad, {"'fc2.weight'", "base weights"}) == "");
  }
  SUBCASE("a tuner on weights that are trained already") {
    mlp<float> trained;
    auto early = make_tuner(trained.weights(), settings);
    train(early, trained, 0, 1);
    auto late = make_tuner(trained.weights(), settings);
    CHECK(complaint<base_error>([&] { late.load_state(good); }, {"base weights"}) == "");
  }
  SUBCASE("another update rule") {
    mlp<float> other;
    auto amsgrad = settings;
    amsgrad.rule.amsgrad = true;
    auto another = make_tuner(other.weights(), amsgrad);
    another.save_state(bad);
    CHECK(refused.operator()<value_error>(bad, {"rule with 2 moments", "got 3"}) == "");
  }
  SUBCASE("another type of computation") {
    f.write<double>(bad);
    CHECK(refused.operator()<value_error>(bad, {"computed in F32, got F64"}) == "");
  }
  SUBCASE("other extents over the same elements") {
    f.state["tensors"]["fc1.weight"]["shape"] = {12, 24};
    f.write(bad);
    CHECK(refused.operator()<sara::shape_error>(bad, {"'fc1.weight'", "[24, 12]", "[12, 24]"}) == "");
  }
  SUBCASE("other tensors") {
    mlp<float> other;
    auto fewer = settings;
    fewer.filter.exclude.push_back("fc1.bias");
    make_tuner(other.weights(), fewer).save_state(bad);
    CHECK(refused.operator()<name_error>(bad, {"expected 3 tensors, got 2"}) == "");
    auto weights = other.weights();
    weights[1].name = "fc1.shift";
    make_tuner(weights, settings).save_state(bad);
    CHECK(refused.operator()<name_error>(bad, {"expected a tensor 'fc1.bias'"}) == "");
  }
  SUBCASE("a description that is a million lists deep") {
    std::string const deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
    sara::safetensors_writer file;
    file.set_metadata("format", "sara.state");
    file.set_metadata("format_version", "1");
    file.set_metadata("state", R"({"steps": 0, "moments": )" + deep + "}");
    file.write(bad);
    CHECK(refused.operator()<value_error>(bad, {"rule with 2 moments", "got array"}) == "");
    file.set_metadata("state", R"({"steps": 0, "moments": 2, "tensors": {"fc1.weight": {"t": 0, "shape": )" + deep +
                                   R"(}, "fc1.bias": {}, "fc2.weight": {}}})");
    file.write(bad);
    CHECK(refused.operator()<file_error>(bad, {"expected"}) == "");
  }
  SUBCASE("contradictions") {
    SUBCASE("positions") { f.positions["fc1.weight.positions"].back() = 24 * 12; }
    SUBCASE("order") { std::swap(f.positions["fc1.weight.positions"][0], f.positions["fc1.weight.positions"][1]); }
    SUBCASE("reselected outside M") {
      auto& left = f.positions["fc1.bias.reselected"];
      for (std::int32_t p = 0; p < 24; ++p)
        if (auto const& m = f.positions["fc1.bias.positions"]; std::find(m.begin(), m.end(), p) == m.end())
          left.assign(left.size(), p);
      left.resize(1);
    }
    SUBCASE("a column too short") { f.columns["fc1.weight.moment1"].pop_back(); }
    SUBCASE("a column missing") { f.columns.erase("fc1.weight.gradient"); }
    SUBCASE("values for another M") { f.columns["fc1.weight.value"].push_back(0); }
    SUBCASE("steps") { f.state["steps"] = -1; }
    SUBCASE("steps of which there are no more") { f.state["steps"] = std::numeric_limits<std::int64_t>::max(); }
    SUBCASE("half a step") { f.state["steps"] = 7.5; }
    SUBCASE("steps of moments") { f.state["tensors"]["fc1.bias"]["t"] = -1; }
    SUBCASE("moments of more steps than there were") { f.state["tensors"]["fc1.bias"]["t"] = 8; }
    SUBCASE("moments of no whole number of steps") { f.state["tensors"]["fc1.bias"]["t"] = 1e300; }
    SUBCASE("not a number") { f.state["steps"] = "seven"; }
    SUBCASE("not a truth") { f.state["tensors"]["fc1.bias"]["gradient"] = 1; }
    SUBCASE("no hash") { f.state["tensors"]["fc1.bias"].erase("base"); }
    SUBCASE("bad hash") { f.state["tensors"]["fc1.bias"]["base"] = "12"; }
    SUBCASE("no threshold") { f.state["tensors"]["fc1.bias"].erase("threshold"); }
    SUBCASE("a threshold below 0") { f.state["tensors"]["fc1.bias"]["threshold"] = -1; }
    SUBCASE("no object") { f.state = nlohmann::json::array(); }
    f.write(bad);
    CHECK(refused.operator()<file_error>(bad, {"expected", "got"}) == "");
  }

  tuner.step();
  train(tuner, model, 4, all_steps);
  CHECK(model.same_as(uninterrupted<float>()));
}

TEST_CASE("any bit of the header turned: refused, or read as another state, never worse") {
  scratch const folder;
  mlp<sara::bfloat16> model;
  auto tuner = make_tuner(model.weights(), settings);
  train(tuner, model, 0, 7);
  tuner.save_state(folder / "state");
  auto const whole = sara::test::read_file(folder / "state");
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  mlp<sara::bfloat16> base;
  auto other = make_tuner(base.weights(), settings);
  int refused = 0;
  for (std::size_t i = 0; i < sizeof header + header; i += 3) {
    CAPTURE(i);
    auto damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 7));
    sara::test::write_file(folder / "damaged", damaged);
    try {
      other.load_state(folder / "damaged");
    } catch (sara::error const& e) {
      CHECK(std::string(e.what()).find("damaged") != std::string::npos);
      ++refused;
    }
  }
  CHECK(refused > static_cast<int>(header) / 4);
}

TEST_CASE("a name that is not UTF-8 is in no state") {
  scratch const folder;
  mlp<float> model;
  auto weights = model.weights();
  weights[1].name = "no \xff UTF-8";
  auto const tuner = make_tuner(weights, settings);
  CHECK(complaint<sara::file_error>([&] { tuner.save_state(folder / "state"); }, {"UTF-8"}) == "");
}

TEST_CASE("a state cannot be written where there is no folder") {
  scratch const folder;
  mlp<float> model;
  auto const tuner = make_tuner(model.weights(), settings);
  CHECK(complaint<sara::file_error>([&] { tuner.save_state(folder / "no" / "state"); }, {"no/state"}) == "");
}
