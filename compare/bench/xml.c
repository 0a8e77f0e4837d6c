// xml — libxml2 at work: parse, ask by XPath, change, build, print.
//
// A document of --size hundred entries is parsed --rounds times; each time it
// is asked three questions, some nodes are removed and others added, and it is
// printed.  The last two documents stay.  The library has a hook for memory
// without pointers, which the collectors are given as leaves.

#include "hooks.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>

enum { XML_KEPT = 2 };

static struct hook_text xml_document(size_t entries, uint64_t seed) {
    struct hook_text text = {0};
    uint64_t state = seed;
    hook_print(&text, "<?xml version=\"1.0\"?>\n<library>\n");
    for (size_t at = 0; at < entries; at++) {
        unsigned number = (unsigned)random_below(&state, 100000);
        hook_print(&text, "  <book id=\"b%zu\" year=\"%u\" lang=\"%s\">\n", at,
                   1900 + number % 120, number % 3 ? "en" : "la");
        hook_print(&text, "    <title>On Matter %u &amp; Form</title>\n",
                   number);
        hook_print(&text,
                   "    <author><first>A%u</first><last>B%u</last>"
                   "</author>\n",
                   number % 50, number % 77);
        hook_print(&text, "    <price currency=\"EUR\">%u.%02u</price>\n",
                   number % 90, number % 100);
        hook_print(&text,
                   "    <!-- shelf %u --><text>Some <i>mixed</i> words, "
                   "%u of them, in a row.</text>\n  </book>\n",
                   number % 12, number % 7);
    }
    hook_print(&text, "</library>\n");
    return text;
}

static uint64_t xml_ask(xmlDocPtr document, const char *question) {
    xmlXPathContextPtr context = xmlXPathNewContext(document);
    xmlXPathObjectPtr answer =
        xmlXPathEvalExpression(BAD_CAST question, context);
    uint64_t sum = 0;
    if (answer->type == XPATH_NODESET && answer->nodesetval != NULL) {
        for (int at = 0; at < answer->nodesetval->nodeNr; at++) {
            xmlChar *text = xmlNodeGetContent(answer->nodesetval->nodeTab[at]);
            sum = sum * 31 + (uint64_t)xmlStrlen(text);
            xmlFree(text);
        }
    } else {
        sum = (uint64_t)(xmlXPathCastToNumber(answer) * 16);
    }
    if (SHIM_MANUAL) {
        xmlXPathFreeObject(answer);
        xmlXPathFreeContext(context);
    }
    return sum;
}

static void xml_change(xmlDocPtr document, uint64_t *state) {
    xmlNodePtr root = xmlDocGetRootElement(document);
    xmlNodePtr node = root->children;
    while (node != NULL) {
        xmlNodePtr next = node->next;
        uint64_t dice = random_below(state, 8);
        if (node->type == XML_ELEMENT_NODE && dice == 0) {
            xmlUnlinkNode(node);
            if (SHIM_MANUAL) {
                xmlFreeNode(node);
            }
        } else if (node->type == XML_ELEMENT_NODE && dice < 4) {
            char text[32];
            snprintf(text, sizeof text, "lent %u", (unsigned)dice);
            xmlNodePtr note = xmlNewChild(node, NULL, BAD_CAST "note", NULL);
            xmlNewProp(note, BAD_CAST "state", BAD_CAST text);
            xmlNodeAddContent(note, BAD_CAST "returned in good order");
        }
        node = next;
    }
}

static uint64_t xml_print(xmlDocPtr document) {
    xmlChar *text = NULL;
    int bytes = 0;
    xmlDocDumpMemory(document, &text, &bytes);
    uint64_t hash = hook_hash((const char *)text, (size_t)bytes);
    xmlFree(text);
    return hash;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t entries = (run->size != 0 ? run->size : 5) * 100;
    size_t rounds = run->rounds != 0 ? run->rounds : 3;
    static xmlDocPtr kept[XML_KEPT];
    xmlGcMemSetup(hook_free, hook_malloc, hook_leaf, hook_realloc, hook_strdup);
    xmlInitParser();
    struct hook_text text = xml_document(entries, run->seed);
    uint64_t state = run->seed, sum = 0;
    measure_start(run);
    for (size_t round = 0; round < rounds; round++) {
        xmlDocPtr document =
            xmlReadMemory(text.start, (int)text.bytes, "library.xml", NULL, 0);
        sum = sum * 31 + xml_ask(document, "//book[@year>1990]/title");
        sum = sum * 31 + xml_ask(document, "sum(/library/book/price)");
        xml_change(document, &state);
        sum = sum * 31 + xml_ask(document, "//book[note]/author/last");
        sum = sum * 31 + xml_print(document);
        xmlDocPtr *place = &kept[round % XML_KEPT];
        if (SHIM_MANUAL) {
            xmlFreeDoc(*place);
        }
        *place = document;
    }
    measure_stop(run, sum);
    return 0;
}
