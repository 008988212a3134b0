// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backend/host/product.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::const_tensor_view;
using sara::detail::as_matrix;
using sara::test::uniform;

}  // namespace

TEST_CASE("leading dimensions join to one where they are equally spaced") {
  std::vector<float> data(240);
  auto const rows = [&](sara::extents const& shape, sara::extents const& stride) {
    return as_matrix("X", const_tensor_view{data.data(), shape, stride});
  };
  auto const dense = rows({2, 3, 4, 10}, {120, 40, 10, 1});
  CHECK(dense.rows == 24);
  CHECK(dense.cols == 10);
  CHECK(dense.row_stride == 10);
  CHECK(dense.col_stride == 1);
  CHECK(rows({10}, {1}).rows == 1);
  CHECK(rows({1, 5, 1, 4}, {7, 48, 9, 1}).row_stride == 48);  // strides of extents of one do not count
  CHECK(rows({4, 6}, {1, 4}).col_stride == 4);
  CHECK(rows({2, 3, 4}, {3, 1, 6}).row_stride == 1);
  CHECK(rows({5, 3, 2}, {0, 0, 0}).rows == 15);
  CHECK(rows({0, 3, 2}, {6, 2, 1}).rows == 0);
  CHECK(rows({2, 0, 2}, {0, 2, 1}).rows == 0);
  CHECK(rows({2, 0, 5}, {5, 5, 1}).rows == 0);  // PyTorch's strides of a dense tensor of this shape
  CHECK(rows({2, 3, 0}, {1, 1, 1}).cols == 0);

  auto const refused = [&](sara::extents const& shape, sara::extents const& stride) {
    return sara::test::complaint<sara::shape_error>([&] { return rows(shape, stride); }, {"X", "leading dimensions"});
  };
  CHECK(refused({2, 3, 4}, {24, 4, 1}) == "");
  CHECK(refused({3, 2, 4}, {4, 12, 1}) == "");
  CHECK(sara::test::complaint<sara::shape_error>([&] { return rows({}, {}); }, {"X", "scalar"}) == "");
}

TEST_CASE_TEMPLATE("a matrix is packed transposed, panel by panel", R, float, double) {
  constexpr auto length = sara::detail::panel_length<R>;
  for (std::int64_t const rows : {std::int64_t{1}, length - 3, 2 * length + 5})
    for (std::int64_t const cols : {1, 7, 40}) {
      CAPTURE(rows);
      CAPTURE(cols);
      auto const values = uniform<float>("m", (rows + 1) * cols);
      auto const by_row = as_matrix("m", sara::view(values.data(), {rows + 1, cols}));
      auto const by_column = as_matrix("m", const_tensor_view{values.data(), {rows + 1, cols}, {1, rows + 1}});
      for (auto const& [m, row_step, col_step] :
           {std::tuple{by_row, cols, std::int64_t{1}}, {by_column, std::int64_t{1}, rows + 1}}) {
        auto const panels = (rows + length - 1) / length;
        for (std::int64_t const first : {std::int64_t{0}, cols / 3}) {  // from the second row on, all columns or some
          auto const width = cols - first;
          std::vector<R> packed(static_cast<std::size_t>(panels * width * length), R{7});
          sara::detail::pack_transposed<R>(m, {1, rows, first, width}, packed.data());
          auto const padded = sara::detail::padded_length<R>(rows);
          bool right = true;
          for (std::int64_t i = 0; i < padded; ++i)
            for (std::int64_t c = 0; c < width; ++c) {
              auto const found = packed[static_cast<std::size_t>((i / length * width + c) * length + i % length)];
              auto const at = (i + 1) * row_step + (first + c) * col_step;
              right &= found == (i < rows ? R{values[static_cast<std::size_t>(at)]} : R{0});
            }
          CHECK(right);
        }
      }
    }
}

TEST_CASE_TEMPLATE("a batch longer than the workspace goes panel by panel", R, float, double) {
  struct extents_of {
    std::int64_t batch, out, in;
  };
  for (auto const [batch, out, in] : {extents_of{2000, 20, 580}, extents_of{35, 2, 40'000}, extents_of{870, 3, 597}}) {
    REQUIRE((out + in) * batch > sara::detail::strip_budget);
    auto const dy = uniform<float>("dy", batch * out);
    auto const x = uniform<float>("x", batch * in);
    auto const dy_view = sara::view(dy.data(), {batch, out});
    auto const x_view = sara::view(x.data(), {batch, in});
    sara::host const backend{2};
    auto const positions = sara::test::random_positions("m", out * in, 0.05);
    auto const store = sara::test::make_store<sara::flat_index<sara::host>>(backend, {out, in}, positions);
    std::vector<R> gradient(positions.size());
    backend.sampled_product(dy_view, x_view, store.ref(), backend.plan_sampling(store.ref()), gradient.data());
    auto const expected = sara::test::at_positions(sara::test::linear_gradient(dy_view, x_view), positions);
    auto const allowed = std::same_as<R, float> ? 2e-5 : 1e-12;
    CHECK(sara::test::difference(gradient, expected, {allowed, allowed}) == "");
  }
}
