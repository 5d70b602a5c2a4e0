// llama.cpp's products of one shape: OUTPUTS INPUTS THREADS. Prints one JSON object a line.
//
// A matrix larger than the caches is made several times, and the copies take turns at one row. A figure is the fastest
// of its passes. "repacked": in the buffers that llama.cpp lays out for the instruction set of the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

static const size_t cached = 4 << 20, larger_than_caches = 128 << 20;

static ggml_context * context(bool with_graphs) {
    const size_t graphs = with_graphs ? ggml_graph_overhead() * 64 : 0;
    return ggml_init({ggml_tensor_overhead() * 512 + graphs, nullptr, true});
}

static ggml_backend_buffer_type_t repacked(ggml_backend_t backend) {
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    auto get = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    for (auto * type = get ? get(device) : nullptr; type && *type; type++) {
        if (std::string_view(ggml_backend_buft_name(*type)).find("REPACK") != std::string_view::npos) return *type;
    }
    return nullptr;
}

int main(int, char ** argv) {
    const int outputs = atoi(argv[1]), inputs = atoi(argv[2]), threads = atoi(argv[3]);
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, threads);
    std::mt19937 random(0);
    std::normal_distribution<float> normal;
    std::vector<float> weights((size_t) outputs * inputs);
    for (auto & weight : weights) weight = normal(random);

    const ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q2_K};
    for (ggml_type type : types) {
        if (inputs % ggml_blck_size(type) != 0) continue;
        for (bool is_repacked : {false, true}) {
            ggml_backend_buffer_type_t place = is_repacked ? repacked(backend) : ggml_backend_cpu_buffer_type();
            if (!place || (is_repacked && !ggml_is_quantized(type))) continue;
            const size_t bytes = ggml_row_size(type, inputs) * outputs;
            std::vector<char> codes(bytes);
            ggml_quantize_chunk(type, weights.data(), codes.data(), 0, outputs, inputs, nullptr);
            for (int rows : {1, 64, 512}) {
                const size_t copies = rows == 1 && bytes > cached ? (larger_than_caches + bytes - 1) / bytes : 1;
                ggml_context * held = context(false);
                std::vector<ggml_tensor *> matrices;
                for (size_t i = 0; i < copies; i++) matrices.push_back(ggml_new_tensor_2d(held, type, inputs, outputs));
                ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(held, place);
                // A type that has no other layout on this machine gets nothing.
                if (!buffer || (is_repacked && !matrices[0]->extra)) break;
                for (auto * matrix : matrices) ggml_backend_tensor_set(matrix, codes.data(), 0, bytes);

                ggml_context * working = context(true);
                ggml_tensor * x = ggml_new_tensor_2d(working, GGML_TYPE_F32, inputs, rows);
                std::vector<ggml_cgraph *> graphs;
                for (auto * matrix : matrices) {
                    graphs.push_back(ggml_new_graph_custom(working, 8, false));
                    ggml_build_forward_expand(graphs.back(), ggml_mul_mat(working, matrix, x));
                }
                ggml_backend_buffer_t maps = ggml_backend_alloc_ctx_tensors(working, backend);
                std::vector<float> values((size_t) inputs * rows);
                for (auto & value : values) value = normal(random);
                ggml_backend_tensor_set(x, values.data(), 0, values.size() * sizeof(float));

                double best = 1e9, total = 0;
                for (size_t turn = 0; turn < 8 || (total < 0.5 && turn < 2000); turn++) {
                    auto start = std::chrono::steady_clock::now();
                    ggml_backend_graph_compute(backend, graphs[turn % graphs.size()]);
                    double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                    best = std::min(best, took);
                    total += took;
                }
                const std::string name = std::string(ggml_type_name(type)) + (is_repacked ? ", repacked" : "");
                printf("{\"name\": \"%s\", \"rows\": %d, \"bytes\": %zu, \"seconds\": %.9f}\n", name.c_str(), rows, bytes, best);
                fflush(stdout);
                ggml_backend_buffer_free(maps);
                ggml_free(working);
                ggml_backend_buffer_free(buffer);
                ggml_free(held);
            }
        }
    }
}
