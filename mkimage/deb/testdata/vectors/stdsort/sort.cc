// Prints in which order the std::sort of libstdc++ leaves elements of equal score: g++ -O2 sort.cc && ./a.out >sort.txt
// Each line is: number of elements, number of scores, seed, and a hash over the order of the elements. With 0 scores they are
// a sequence on which quicksort with a median of three is slow, so that the heap takes over.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
	for (uint32_t n : {0, 1, 2, 3, 15, 16, 17, 18, 33, 64, 100, 1000, 20000})
		for (uint32_t scores : {0, 1, 2, 5, 50, 1000000})
			for (uint32_t seed : {1, 2, 3}) {
				std::vector<uint32_t> score(n), order(n);
				uint32_t x = seed;
				for (uint32_t i = 0; i < n; i++) {
					order[i] = i;
					x = x * 1664525 + 1013904223;
					if (scores != 0)
						score[i] = (x >> 8) % scores;
					else
						score[i] = i < n / 2 ? (i % 2 ? n / 2 + i + seed : i + 1) : 2 * (i - n / 2);
				}
				std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return score[a] > score[b]; });
				uint32_t hash = 0;
				for (uint32_t i : order)
					hash = hash * 31 + i;
				printf("%u %u %u %08x\n", n, scores, seed, hash);
			}
}
