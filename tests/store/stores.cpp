// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/store/check_positions.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace {

using sara::host;
using sara::matrix_shape;
using sara::test::every_position;
using sara::test::make_store;
using sara::test::positions_of;
using sara::test::random_positions;

using positions = std::vector<std::int64_t>;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
#else
constexpr bool sanitized = false;
#endif

/// What a store must answer, checked against the sorted list that it was made of: everything at every slot, and
/// lower_bound at, before and after every position and at the ends.
template <class Store>
void check_against_list(host const& backend, matrix_shape shape, positions const& list) {
  auto const store = make_store<Store>(backend, shape, list);
  auto const ref = store.ref();
  auto const n = std::ssize(list);
  CHECK(store.count() == n);
  CHECK(ref.count() == n);
  CHECK(ref.shape() == shape);
  CHECK(positions_of(ref) == list);
  CHECK(sara::positions_of(backend, store) == list);

  int wrong = 0;
  for (std::int64_t slot = 0; slot < n; ++slot) wrong += ref.position(slot) != list[static_cast<std::size_t>(slot)];
  CHECK(wrong == 0);

  positions edges{0, 1, shape.cols - 1, shape.cols, shape.cols + 1, shape.size() - 1, shape.size()};
  for (auto const p : list) edges.insert(edges.end(), {p - 1, p, p + 1});
  for (auto const e : edges) {
    if (e < 0 || e > shape.size()) continue;
    wrong += ref.lower_bound(e) != std::lower_bound(list.begin(), list.end(), e) - list.begin();
  }
  CHECK(wrong == 0);

  auto const steps = std::max<std::int64_t>(1, n / 7);
  for (std::int64_t first = 0; first <= n; first += steps)
    for (std::int64_t last = first; last <= n; last += steps) {
      auto slot = first;
      ref.for_each(first, last, [&](std::int64_t s, std::int64_t p) {
        wrong += s != slot || p != list[static_cast<std::size_t>(slot)];
        ++slot;
      });
      wrong += slot != last;
    }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("a store is its list of positions", Store, SARA_HOST_STORES) {
  static_assert(sara::SparseParameterStore<Store, host> && sara::Positions<typename Store::ref_type>);
  static_assert(std::is_trivially_copyable_v<typename Store::ref_type>);
  host const backend{2};
  for (auto const shape : {matrix_shape{37, 53}, {1, 1}, {1, 1961}, {1961, 1}, {64, 64}, {3, 4096}, {2, 65'536}})
    for (double const density : {0.001, 0.05, 0.5, 0.98})
      check_against_list<Store>(backend, shape, random_positions("store", shape.size(), density));
}

TEST_CASE_TEMPLATE("empty and full", Store, SARA_HOST_STORES) {
  host const backend{2};
  for (auto const shape : {matrix_shape{0, 5}, {5, 0}, {0, 0}, {1, 1}, {5, 13}, {2, 70'000}, {70'000, 1}}) {
    check_against_list<Store>(backend, shape, {});
    check_against_list<Store>(backend, shape, every_position(shape.size()));
  }
}

TEST_CASE_TEMPLATE("a lone position anywhere", Store, SARA_HOST_STORES) {
  host const backend{1};
  matrix_shape const shape{3, 5000};
  for (std::int64_t const p : {0, 1, 63, 64, 4095, 4096, 4999, 5000, 8191, 8192, 9999, 10'000, 14'999})
    check_against_list<Store>(backend, shape, {p});
}

TEST_CASE_TEMPLATE("rows longer than a 16-bit column", Store, SARA_HOST_STORES) {
  host const backend{2};
  matrix_shape const shape{3, 3 * 65'536 + 10};
  check_against_list<Store>(backend, shape, random_positions("long rows", shape.size(), 0.002));
  positions ends;
  for (std::int64_t row = 0; row < shape.rows; ++row)
    for (std::int64_t const column : {0, 65'535, 65'536, 131'071, 131'072, 196'607, 196'608, 196'617})
      ends.push_back(row * shape.cols + column);
  check_against_list<Store>(backend, shape, ends);
}

TEST_CASE_TEMPLATE("a single column", Store, SARA_HOST_STORES) {
  for (std::int64_t const rows : {1, 65'536, 65'537, 300'000})
    check_against_list<Store>(host{2}, {rows, 1}, random_positions("column", rows, 0.01));
}

TEST_CASE_TEMPLATE("positions past 2^31 and 2^32", Store, sara::flat_index<host>, sara::row_index<host>) {
  constexpr auto two_31 = std::int64_t{1} << 31;
  host const backend{1};
  check_against_list<Store>(backend, {3, two_31},
                            {0, 65'536, two_31 - 1, two_31, two_31 + 1, 2 * two_31 - 1, 2 * two_31, 2 * two_31 + 1,
                             2 * two_31 + 65'536, 3 * two_31 - 1});
  check_against_list<Store>(backend, {2, two_31}, {5, two_31 - 1, two_31, 2 * two_31 - 1});
}

TEST_CASE("a bitmask of more than 2^31 bits" * doctest::skip(sanitized)) {  // 272 MB, and shadow memory besides
  constexpr auto bits = (std::int64_t{1} << 31) + 100;
  check_against_list<sara::bitmask<host>>(host{2}, {1, bits},
                                          {7, 1'000'000'000, bits - 101, bits - 100, bits - 99, bits - 1});
}

TEST_CASE("bytes are what the formula says") {
  // [bytes]
  sara::host const backend{1};
  sara::matrix_shape const shape{1000, 640};
  auto const selected = random_positions("bytes", shape.size(), 0.05);
  auto const count = std::ssize(selected);

  sara::flat_index const flat{backend, shape, selected.data(), count};
  sara::row_index const rows{backend, shape, selected.data(), count};
  sara::bitmask const bits{backend, shape, selected.data(), count};

  CHECK(flat.bytes() == 4 * count);
  CHECK(rows.bytes() == 2 * count + 8 * (shape.rows + 1));
  CHECK(bits.bytes() == shape.size() / 8 + 8 * ((shape.size() + 4095) / 4096));
  // [/bytes]
}

TEST_CASE("bytes at the edges") {
  host const backend{1};
  constexpr auto two_32 = std::int64_t{1} << 32;
  CHECK(make_store<sara::flat_index<host>>(backend, {1, two_32}, {two_32 - 1}).bytes() == 4);
  CHECK(make_store<sara::flat_index<host>>(backend, {1, two_32 + 1}, {two_32}).bytes() == 8);
  CHECK(make_store<sara::flat_index<host>>(backend, {4, 4}, {}).bytes() == 0);
  CHECK(make_store<sara::row_index<host>>(backend, {4, 65'536}, {1, 2}).bytes() == 2 * 2 + 8 * 5);
  CHECK(make_store<sara::row_index<host>>(backend, {4, 65'537}, {1, 2}).bytes() == 2 * 2 + 8 * 9);
  CHECK(make_store<sara::row_index<host>>(backend, {0, 7}, {}).bytes() == 8);
  CHECK(make_store<sara::row_index<host>>(backend, {65'537, 1}, {1, 2}).bytes() == 2 * 2 + 8 * 3);  // a flat tensor
  CHECK(make_store<sara::bitmask<host>>(backend, {1, 64}, {3}).bytes() == 8 + 8);
  CHECK(make_store<sara::bitmask<host>>(backend, {1, 65}, {3}).bytes() == 16 + 8);
  CHECK(make_store<sara::bitmask<host>>(backend, {1, 4097}, {3}).bytes() == 65 * 8 + 2 * 8);
  CHECK(make_store<sara::bitmask<host>>(backend, {0, 4}, {}).bytes() == 0);
}

TEST_CASE_TEMPLATE("slots are kept", Store, SARA_HOST_STORES) {
  host const backend{2};
  matrix_shape const shape{40, 300};
  auto const list = random_positions("before", shape.size(), 0.3);
  auto const before = make_store<Store>(backend, shape, list);

  auto const keep = random_positions("keep", std::ssize(list), 0.2);
  positions expected;
  for (auto const slot : keep) expected.push_back(list[static_cast<std::size_t>(slot)]);
  auto const after = sara::keep_slots(backend, before, keep.data(), std::ssize(keep));
  CHECK(positions_of(after.ref()) == expected);
  CHECK(after.ref().shape() == shape);

  auto const all = every_position(std::ssize(list));
  CHECK(positions_of(sara::keep_slots(backend, before, all.data(), std::ssize(all)).ref()) == list);
  CHECK(sara::keep_slots(backend, before, all.data(), 0).count() == 0);
}

TEST_CASE_TEMPLATE("a store moves with what it holds", Store, SARA_HOST_STORES) {
  host const backend{1};
  auto first = make_store<Store>(backend, {10, 10}, {4, 44, 99});
  Store second = std::move(first);
  CHECK(positions_of(second.ref()) == positions{4, 44, 99});
  second = make_store<Store>(backend, {2, 2}, {3});
  CHECK(positions_of(second.ref()) == positions{3});
}

TEST_CASE_TEMPLATE("the same positions for any number of threads", Store, SARA_HOST_STORES) {
  auto const list = random_positions("threads", 300 * 700, 0.3);
  for (int const threads : sara::test::thread_counts)
    CHECK(positions_of(make_store<Store>(host{threads}, {300, 700}, list).ref()) == list);
}

TEST_CASE("contains") {
  auto const list = random_positions("contains", 10'000, 0.4);
  auto const store = make_store<sara::bitmask<host>>(host{1}, {100, 100}, list);
  int wrong = 0;
  for (std::int64_t p = 0; p < 10'000; ++p)
    wrong += store.ref().contains(p) != std::binary_search(list.begin(), list.end(), p);
  CHECK(wrong == 0);
}

TEST_CASE("what is no store") {
  static_assert(!sara::SparseParameterStore<positions, host>);
  static_assert(!sara::SparseParameterStore<sara::flat_index<host>, int>);
  static_assert(std::is_same_v<sara::store_as<sara::row_index>::type<host>, sara::row_index<host>>);
  CHECK(sara::bitmask<host>::block_words * sara::bitmask<host>::word_bits == 4096);
}

TEST_CASE("positions that no store may hold") {
  auto const refused = [](positions const& list) {
    return sara::test::complaint<sara::shape_error>(
        [&] {
          sara::check_positions(list, {4, 5});
        },
        {"from 0 and below 20"});
  };
  CHECK_NOTHROW(sara::check_positions(positions{}, {4, 5}));
  CHECK_NOTHROW(sara::check_positions(positions{0, 7, 19}, {4, 5}));
  CHECK(refused({-1, 7}) == "");
  CHECK(refused({7, 20}) == "");
  CHECK(refused({7, 7}) == "");
  CHECK(refused({7, 3}) == "");
}
