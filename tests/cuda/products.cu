// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "../conformance/products.hpp"
#include "places.cuh"

SARA_PRODUCT_CASES(sara::test::on_loops);
SARA_PRODUCT_CASES(sara::test::on_device);

namespace {

/// Loops that add up the scratch memory they are asked for.
struct counting_executor : sara::test::loop_executor {
  using loop_executor::loop_executor;
  std::int64_t* asked = nullptr;

  template <class T>
  [[nodiscard]] buffer<T> scratch(std::int64_t n) const {
    *asked += n * static_cast<std::int64_t>(sizeof(T));
    return loop_executor::scratch<T>(n);
  }
};

}  // namespace

TEST_CASE("copies of a convolution keep to their bound however large an image is") {
  using namespace sara::cuda::detail;
  sara::test::convolution const c{{2, 512, 3, 3}, {1, 512, 72, 72}, {.padding = {1, 1}}};  // 96 MB of im2col
  auto const dy = sara::test::uniform<float>("dy", c.dy().product());
  auto const x = sara::test::uniform<float>("x", c.x.product());
  auto const shape = sara::conv2d_shape::of(c.weight, c.dy(), c.x, c.geometry);
  auto const every = sara::test::every_position(c.weight.product());
  auto const store = sara::test::make_store<sara::flat_index<sara::host>>(sara::host{1}, shape.matrix(), every);
  std::vector<float> gradient(every.size());
  std::int64_t asked = 0;
  counting_executor machine{0.0};
  machine.asked = &asked;
  panel_convolution<float>(machine, shape, {dy.data(), c.dy()}, {x.data(), c.x}, store.ref(), gradient.data());
  CHECK(asked <= panel_bytes + 2 * copy_bytes);
}

TEST_CASE("a bias of 16 bits is summed without a copy in float32") {
  std::int64_t const tokens = 50, out = 20;
  auto const dy = sara::test::uniform<sara::bfloat16>("dy", tokens * out);
  std::vector<float> expected(out), gradient(out);
  for (std::size_t i = 0; i < dy.size(); ++i) expected[i % expected.size()] += sara::widen(dy[i]);
  std::int64_t asked = 0;
  counting_executor machine{2.0};
  machine.asked = &asked;
  sara::accumulate_linear_bias(sara::cuda::basic_device<counting_executor>{machine},
                               sara::const_tensor_view{dy.data(), {tokens, out}}, sara::all_positions{out},
                               gradient.data());
  CHECK(sara::test::difference(gradient, expected, {1e-5, 1e-5}) == "");
  CHECK(asked <= static_cast<std::int64_t>(sizeof(double) + dy.size() * sizeof(sara::bfloat16)));
}
