// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/optim/optimizer.h>

#include <any>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/schedule/concept.hpp>
#include <sara/update/concept.hpp>

namespace sara::torch {

/// What a parameter group of sara::torch::optimizer may have of its own.
///
///     torch::optim::OptimizerParamGroup{biases, std::make_unique<sara::torch::group_options>(
///         sara::torch::group_options{}.lr(1e-3).rule(sara::adamw{.weight_decay = 0}))}
///
/// libtorch's learning-rate schedulers read and write `lr`.
class group_options : public ::torch::optim::OptimizerCloneableOptions<group_options> {
 public:
  /// The learning rate; without it the optimizer's.
  group_options& lr(double rate) {
    lr_ = rate;
    return *this;
  }
  /// The update rule with settings of this group's, of the type that the optimizer's has.
  template <UpdateRule Rule>
  group_options& rule(Rule const& settings) {
    rule_ = settings;
    return *this;
  }

  [[nodiscard]] std::optional<double> const& own_lr() const noexcept { return lr_; }
  [[nodiscard]] std::any const& own_rule() const noexcept { return rule_; }

  /// NaN as long as there is none.
  [[nodiscard]] double get_lr() const override { return lr_.value_or(std::numeric_limits<double>::quiet_NaN()); }
  void set_lr(double const rate) override { lr_ = rate; }

 private:
  std::optional<double> lr_;
  std::any rule_;
};

namespace detail {

/// Which group a tensor is in, and the groups' learning rates now.
struct group_table {
  std::unordered_map<std::string, std::size_t> group_of;
  std::vector<double> rates;

  [[nodiscard]] std::size_t operator[](std::string_view name) const {
    auto const found = group_of.find(std::string{name});
    return found == group_of.end() ? 0 : found->second;
  }
};

/// An update rule whose learning rate and settings are those of the tensor's group. Its step's rate is a factor.
template <UpdateRule Rule>
class grouped_rule {
 public:
  /// @param rules  one a group
  /// @throws value_error  for rules of unequal numbers of moments, or settings outside their range
  grouped_rule(std::shared_ptr<group_table const> groups, std::vector<Rule> rules)
      : groups_{std::move(groups)}, rules_{std::move(rules)} {
    for (auto const& rule : rules_) {
      sara::detail::require<value_error>(rule.moments() == rules_[0].moments(),
                                         "torch optimizer: expected rules of one number of moments in all groups, got ",
                                         rules_[0].moments(), " and ", rule.moments());
      static_cast<void>(rule.template kernel<float>(update_step{1, 0}));
    }
  }

  [[nodiscard]] int moments() const { return rules_[0].moments(); }

  template <Real R>
  [[nodiscard]] auto kernel(update_step const& s) const {
    auto const group = (*groups_)[s.tensor];
    return rules_[group].template kernel<R>(update_step{s.t, s.rate * groups_->rates[group], s.tensor});
  }

 private:
  std::shared_ptr<group_table const> groups_;
  std::vector<Rule> rules_;
};

/// A schedule's factors without its rate, which the groups have.
template <RateSchedule Schedule>
struct factor_only {
  Schedule schedule;
  std::optional<double> rate = 1.0;
  [[nodiscard]] double factor(std::int64_t step) const { return schedule.factor(step); }
};

/// The rule of each group: its own, or the optimizer's.
/// @throws value_error  for a rule of another type
template <UpdateRule Rule>
[[nodiscard]] std::vector<Rule> rules_of(std::vector<std::any> const& own, Rule const& common) {
  std::vector<Rule> out;
  for (auto const& rule : own) {
    auto const* const settings = std::any_cast<Rule>(&rule);
    sara::detail::require<value_error>(settings != nullptr || !rule.has_value(),
                                       "torch optimizer: expected a group's rule to be of the optimizer's type, got "
                                       "another");
    out.push_back(settings != nullptr ? *settings : common);
  }
  return out;
}

}  // namespace detail
}  // namespace sara::torch
