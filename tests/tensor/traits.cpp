// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <sara/tensor/traits.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"

// [own_tensor]
/// A tensor of somebody else's framework.
struct foreign_tensor {
  float* data;
  std::vector<std::int64_t> sizes;
};

template <>
struct sara::tensor_traits<foreign_tensor> {
  static tensor_view view(foreign_tensor& tensor) {
    extents shape;
    for (auto const size : tensor.sizes) shape.push_back(size);
    return {tensor.data, shape};
  }
};
// [/own_tensor]

namespace {

struct parameter {
  std::string name;
  std::vector<float> tensor;
};

}  // namespace

TEST_CASE("a framework's tensor needs one specialisation") {
  static_assert(sara::WritableTensor<foreign_tensor>);
  std::vector<float> data(6);
  foreign_tensor tensor{data.data(), {2, 3}};
  auto const v = sara::view(tensor);
  CHECK(v.shape() == sara::extents{2, 3});
  CHECK(v.bytes() == reinterpret_cast<std::byte*>(data.data()));
}

TEST_CASE("concepts") {
  static_assert(sara::WritableTensor<std::vector<double>> && sara::ReadableTensor<std::vector<double> const>);
  static_assert(!sara::WritableTensor<std::vector<double> const>);
  static_assert(sara::WritableTensor<sara::tensor_view> && sara::WritableTensor<sara::tensor_view const>);
  static_assert(sara::ReadableTensor<sara::const_tensor_view> && !sara::WritableTensor<sara::const_tensor_view>);
  static_assert(!sara::ReadableTensor<std::string> && !sara::ReadableTensor<int>);
  static_assert(!sara::ReadableTensor<std::vector<int>> && !sara::ReadableTensor<std::vector<bool>>);
  static_assert(sara::NamedTensors<std::map<std::string, std::vector<float>>>);
  static_assert(sara::NamedTensors<std::vector<parameter> const>);
  static_assert(!sara::NamedTensors<std::vector<std::vector<float>>> && !sara::NamedTensors<int>);
}

TEST_CASE("a raw pointer with extents") {
  float data[6] = {};
  auto const v = sara::view(data, {2, 3}, sara::memory::cuda);
  static_assert(std::is_same_v<decltype(v), sara::tensor_view const>);
  CHECK(v.where() == sara::memory::cuda);
  static_assert(std::is_same_v<decltype(sara::view(std::as_const(data) + 0, {6})), sara::const_tensor_view>);
}

TEST_CASE("views of a range of names and tensors") {
  std::vector<float> a(2), b(3);

  SUBCASE("pairs of references") {
    std::vector<std::pair<char const*, std::vector<float>&>> range{{"a", a}, {"b", b}};
    auto const views = sara::views_of<sara::tensor_view>(range);
    REQUIRE(views.size() == 2);
    CHECK(views[0].name == "a");
    CHECK(views[1].tensor.bytes() == reinterpret_cast<std::byte*>(b.data()));
  }
  SUBCASE("a map") {
    std::map<std::string, std::vector<float>> range{{"w", a}};
    CHECK(sara::views_of<sara::tensor_view>(range)[0].tensor.bytes() ==
          reinterpret_cast<std::byte*>(range["w"].data()));
    CHECK(sara::views_of<sara::const_tensor_view>(std::as_const(range)).size() == 1);
  }
  SUBCASE("tuples with more in them") {
    std::vector<std::tuple<std::string, std::vector<float>, int>> range{{"w", a, 1}};
    CHECK(sara::views_of<sara::tensor_view>(range)[0].name == "w");
  }
  SUBCASE("objects with name and tensor") {
    std::vector<parameter> range{{"w", a}, {"v", b}};
    CHECK(sara::views_of<sara::const_tensor_view>(range)[1].tensor.size() == 3);
    static_assert(std::is_same_v<sara::range_scalar<std::vector<parameter>>, float>);
  }
  SUBCASE("views themselves") {
    std::vector<sara::named_tensor> range{{"w", sara::view(a)}};
    CHECK(sara::views_of<sara::const_tensor_view>(range)[0].tensor.size() == 2);
    static_assert(std::is_void_v<sara::range_scalar<std::vector<sara::named_tensor>>>);
  }
  SUBCASE("one name for two tensors") {
    std::vector<parameter> range{{"w", a}, {"v", b}, {"w", b}};
    CHECK(sara::test::complaint<sara::name_error>([&] { static_cast<void>(sara::views_of<sara::tensor_view>(range)); },
                                                  {"'w' twice"}) == "");
  }
}
