// lua — scripts, as a program that embeds Lua would run them.
//
// Lua finds its own garbage: every object is in a list of the interpreter's, so
// that nobody else could.  Its collector therefore runs in every row alike, and
// what is compared is what follows: with malloc its frees are real, with the
// collectors they do nothing.  Lua counts its memory itself, so it collects at
// the same moments in all rows.
//
// --variant strings, tables, trees or closures; --size how often.  What the
// last half of the rounds made stays alive.

#include "hooks.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

static const char lua_strings[] =
    "local n, sum, kept = ..., 0, {}\n"
    "for round = 1, n do\n"
    "  local parts = {}\n"
    "  for i = 1, 400 do parts[#parts + 1] = 'w' .. i * round % 997 end\n"
    "  local text = table.concat(parts, ' ')\n"
    "  text = text:gsub('w(%d+)', function(d) return 'v' .. d + 1 end)\n"
    "  for word in text:gmatch('%S+') do sum = sum + #word end\n"
    "  sum = sum + #text:upper():rep(3) + (text:find('v9') or 0)\n"
    "  kept[round % (n // 2 + 1)] = {text, parts}\n"
    "end\n"
    "return sum\n";

static const char lua_tables[] =
    "local n, sum = ..., 0\n"
    "local index = {}\n"
    "for round = 1, n do\n"
    "  local list = {}\n"
    "  for i = 1, 300 do\n"
    "    list[i] = {id = i, key = i * round % 211, tags = {i, i + 1}}\n"
    "  end\n"
    "  table.sort(list, function(a, b)\n"
    "    if a.key ~= b.key then return a.key < b.key end\n"
    "    return a.id < b.id\n"
    "  end)\n"
    "  for i, item in ipairs(list) do\n"
    "    index[round % (n // 2 + 1) * 300 + i] = item\n"
    "    sum = (sum * 3 + item.id * i) % 1000000007\n"
    "  end\n"
    "end\n"
    "return sum\n";

static const char lua_trees[] =
    "local n, sum = ..., 0\n"
    "local function make(d)\n"
    "  if d == 0 then return {} end\n"
    "  return {make(d - 1), make(d - 1)}\n"
    "end\n"
    "local function count(t)\n"
    "  return t[1] and 1 + count(t[1]) + count(t[2]) or 1\n"
    "end\n"
    "local keep = make(n > 1000 and 16 or 14)\n"
    "for round = 1, n do sum = sum + count(make(9)) end\n"
    "return sum + count(keep)\n";

static const char lua_closures[] =
    "local n, sum, kept = ..., 0, {}\n"
    "local function compose(f, g) return function(x) return f(g(x)) end end\n"
    "for round = 1, n do\n"
    "  local f = function(x) return x end\n"
    "  for i = 1, 60 do\n"
    "    local k = i * round % 7\n"
    "    f = compose(function(x) return (x + k) % 65536 end, f)\n"
    "  end\n"
    "  local co = coroutine.wrap(function(a)\n"
    "    for i = 1, 10 do a = coroutine.yield(f(a + i)) end\n"
    "  end)\n"
    "  for i = 1, 10 do sum = (sum + co(i)) % 1000000007 end\n"
    "  kept[round % (n // 2 + 1)] = f\n"
    "end\n"
    "return sum\n";

static void *lua_hook(void *data, void *p, size_t old_bytes, size_t bytes) {
    (void)data;
    (void)old_bytes;
    if (bytes == 0) {
        shim_dead(p);
        return NULL;
    }
    return p != NULL ? mem_resize(p, bytes) : mem_raw(bytes);
}

static const char *lua_script(const struct measure *run) {
    return measure_is(run, "tables")     ? lua_tables
           : measure_is(run, "trees")    ? lua_trees
           : measure_is(run, "closures") ? lua_closures
                                         : lua_strings;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t rounds = run->size != 0 ? run->size : 100;
    static lua_State *lua;
    measure_start(run);
    lua = lua_newstate(lua_hook, NULL);
    luaL_openlibs(lua);
    if (luaL_loadstring(lua, lua_script(run)) != LUA_OK) {
        return 1;
    }
    lua_pushinteger(lua, (lua_Integer)rounds);
    if (lua_pcall(lua, 1, 1, 0) != LUA_OK) {
        fprintf(stderr, "lua: %s\n", lua_tostring(lua, -1));
        return 1;
    }
    uint64_t sum = (uint64_t)lua_tonumber(lua, -1);
    if (SHIM_MANUAL) {
        lua_close(lua);
    }
    measure_stop(run, sum);
    return 0;
}
