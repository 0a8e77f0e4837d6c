#include "api/report_cycle.h"

#include "base/text.h"
#include "os/output.h"
#include "os/thread.h"

#define REPORT_CYCLE_BYTES 1536 // RC1: for all figures at their longest

static struct {
    enum options_trace form;
    const char *file; // NULL: standard error
} report_cycle_state = {OPTIONS_TRACE_ON, NULL};

void report_cycle_set(enum options_trace trace, const char *file) {
    report_cycle_state.form = trace;
    report_cycle_state.file = file;
}

static const char *const report_cycle_reasons[COLLECT_REASONS] = {
    [COLLECT_ASKED] = "asked",       [COLLECT_GOAL] = "goal",
    [COLLECT_SHORTAGE] = "shortage", [COLLECT_EVERY] = "every",
    [COLLECT_HELD] = "held",
};

// What was held when the cycle began.
static size_t report_cycle_held(const struct collect_report *report) {
    return report->census.held_bytes + report->census.let_go_bytes;
}

// What a quarantine read of the heap.
static size_t report_cycle_swept(const struct collect_report *report) {
    return report->swept_bytes - report->foreign_bytes;
}

static void report_cycle_add(struct text *text, const char *before,
                             size_t bytes) {
    text_add(text, before);
    text_add_size(text, bytes);
}

static void report_cycle_line(const struct collect_report *report,
                              struct text *text) {
    text_add(text, "loam: cycle ");
    text_add_number(text, report->number);
    text_add(text, " (");
    text_add(text, report_cycle_reasons[report->reason]);
    report_cycle_add(text, "): in objects ", report->used_bytes);
    report_cycle_add(text, " -> ", report->census.live_bytes);
    text_add(text, " in ");
    text_add_number(text, report->census.live_objects);
    if (report_cycle_held(report) != 0) {
        report_cycle_add(text, "; held ", report_cycle_held(report));
        report_cycle_add(text, " -> ", report->census.held_bytes);
    }
    report_cycle_add(text, "; freed ", report->census.dead_bytes);
    report_cycle_add(text, "; blocks ", report->census.block_bytes);
    report_cycle_add(text, ", committed ", report->heap_bytes);
    report_cycle_add(text, ", next at ", report->goal_bytes);
    report_cycle_add(text, "; roots ", report->root_bytes);
    report_cycle_add(text, ", read ",
                     report->scanned_bytes + report_cycle_swept(report));
    if (report->foreign_bytes != 0) {
        report_cycle_add(text, ", foreign ", report->foreign_bytes);
    }
    text_add(text, "; pause ");
    text_add_time(text, report->pause_ns);
    text_add(text, ", stopping ");
    text_add_number(text, report->threads);
    text_add(text, report->threads == 1 ? " thread " : " threads ");
    text_add_time(text, report->stop_ns);
    text_add(text, ", marking ");
    text_add_time(text, report->mark_ns);
}

// RC2
static void report_cycle_json(const struct collect_report *report,
                              struct text *text) {
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"pid", thread_process_id()},
        {"cycle", report->number},
        {"used_before_bytes", report->used_bytes},
        {"used_after_bytes", report->census.live_bytes},
        {"used_after_objects", report->census.live_objects},
        {"held_before_bytes", report_cycle_held(report)},
        {"held_after_bytes", report->census.held_bytes},
        {"held_after_objects", report->census.held_objects},
        {"freed_bytes", report->census.dead_bytes},
        {"freed_objects", report->census.dead_objects},
        {"block_bytes", report->census.block_bytes},
        {"committed_bytes", report->heap_bytes},
        {"next_bytes", report->goal_bytes},
        {"read_heap_bytes", report->scanned_bytes + report_cycle_swept(report)},
        {"read_root_bytes", report->root_bytes},
        {"read_foreign_bytes", report->foreign_bytes},
        {"threads", report->threads},
        {"markers", report->markers},
        {"pause_ns", report->pause_ns},
        {"stop_ns", report->stop_ns},
        {"mark_ns", report->mark_ns},
    };
    text_add(text, "{\"event\":\"cycle\",\"reason\":\"");
    text_add(text, report_cycle_reasons[report->reason]);
    text_add(text, "\"");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        text_add(text, ",\"");
        text_add(text, fields[i].name);
        text_add(text, "\":");
        text_add_number(text, fields[i].value);
    }
    text_add(text, "}");
}

void report_cycle(const struct collect_report *report) {
    char line[REPORT_CYCLE_BYTES];
    struct text text;
    text_init(&text, line, sizeof line);
    if (report_cycle_state.form == OPTIONS_TRACE_JSON) {
        report_cycle_json(report, &text);
    } else {
        report_cycle_line(report, &text);
    }
    line[text.count] = '\n'; // in the place of the zero
    if (report_cycle_state.file == NULL ||
        !output_append(report_cycle_state.file, line, text.count + 1)) { // RC3
        output_write(line, text.count + 1);
    }
}
