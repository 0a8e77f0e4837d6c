/* loam/rc.hpp: objects that count who owns them, in C++.
 *
 * The counted objects of loam/rc.h behind three names: loam::ref<T> owns,
 * loam::weak<T> leads to an object as long as it lives, loam::make<T>(...)
 * makes one.  C++11 and later, with and without exceptions and RTTI.
 *
 *     struct node {
 *         loam::ref<node> left, right;
 *         std::string name;
 *         template <class S> static void loam_slots(S &slot) {
 *             slot(&node::left);
 *             slot(&node::right);
 *         }
 *     };
 *     loam::ref<node> root = loam::make<node>();             count 1
 *     root->left = loam::make<node>();                       the slot owns it
 *     root->right = root->left;                              count 2
 *                                     here root dies, and all it owned
 *
 * Conventions, beside those of rc.h
 *   Slot      A ref that is a member of a counted object.  The class lists its
 *             slots: then rings through them are found.  A ref that is not
 *             listed owns as well, and is released as well; but to the cycle
 *             collector and the tracer it is an owner from outside, and a ring
 *             through it is kept.  So is one in a container of the object's,
 *             whose memory is malloc's: a std::vector of refs owns what it
 *             holds, wherever the vector is.
 *   Death     The destructor of the class runs when the count falls to 0, and
 *             sees its slots as they were.  Its members are destroyed after it
 *             as in all of C++: a ref lets go of what it owns.  What dies with
 *             that waits until the destructor is done: however long a list is,
 *             no destructor runs within another.  It may not throw.
 *   Bases     A ref of a class is one of its base, too, where the base lies at
 *             the object's first byte; elsewhere it does not compile.  The
 *             destructor is that of the class that was made: it need not be
 *             virtual.
 *   Threads   As the flags of the type say (loam::traits).  A ref itself, like
 *             any variable, is one thread's at a time.
 *   Shortage  What is made is empty.  Nothing here throws by itself.
 *   longjmp   Skips the destructors of refs, and what they own stays.
 *
 * Design, measurements: docs/design/cpp.md
 */

#ifndef LOAM_RC_HPP
#define LOAM_RC_HPP

#include <cstddef>
#include <functional>
#include <new>
#include <type_traits>
#include <utility>

#include "rc.h"
#include "weak.h"

namespace loam {

/* --- Types ------------------------------------------------------------- */

/* What a class says of itself: flags, LOAM_TYPE_* of rc.h; and whether its
 * destructor has nothing to do but let go of the listed slots.  Then it is not
 * called, the library does that by itself, and an object of a list is destroyed
 * in 4 ns instead of some 40.  Both are the class's own, not its heirs'. */
template <uint32_t Flags = 0, bool SlotsAlone = false> struct describe {
    static constexpr uint32_t flags = Flags;
    static constexpr bool slots_alone = SlotsAlone;
};

/* To be specialized before the first object is made:
 *     template <> struct loam::traits<account>
 *         : loam::describe<LOAM_TYPE_SHARED> {};
 * Deferred types are not for C++: a ref in a variable counts. */
template <class T> struct traits : describe<> {};

template <class T> class ref;
template <class T> class weak;

/* A class whose constructor, destructor, loam_slots or loam_finalize is not
 * public says `friend struct loam::access;`. */
struct access;

/* What loam_slots is given: takes pointers to members that are refs, or arrays
 * of them, also those of bases that are not virtual.  A class that inherits
 * loam_slots inherits the list; one that lists more of its own calls its
 * base's, `base::loam_slots(slot);`. */
template <class T> class slots {
  public:
    template <class U, class B>
    slots &operator()(const ref<U> B::*member) noexcept {
        return add(member, 1);
    }
    template <class U, class B, size_t N>
    slots &operator()(ref<U> (B::*members)[N]) noexcept {
        return add(members, N);
    }

  private:
    friend struct access;

    slots(uint32_t *list, size_t most) noexcept
        : offsets(list), room(most), count(0) {
    }

    /* A pointer to a data member is the member's offset: so says the ABI that
     * all compilers with GNU attributes follow.  More than there are words in
     * an object are listed twice. */
    template <class M, class B> slots &add(M B::*of_base, size_t n) noexcept {
        M T::*member = of_base;
        static_assert(sizeof member == sizeof(ptrdiff_t), "an offset");
        ptrdiff_t at;
        __builtin_memcpy(&at, &member, sizeof at);
        for (size_t i = 0; i < n && count < room; i++) {
            offsets[count++] = static_cast<uint32_t>(at) +
                               static_cast<uint32_t>(i * sizeof(void *));
        }
        return *this;
    }

    uint32_t *offsets;
    size_t room, count;
};

namespace detail {

struct rival {
    int loam_slots;
};
template <class T> struct rivals : T, rival {};

/* Whether a class that can be derived from has something of that name, even if
 * it is private: then it is ambiguous beside another. */
template <class T, bool = std::is_class<T>::value && !__is_final(T)>
struct names_slots {
    template <class R> static std::false_type ask(decltype(&R::loam_slots));
    template <class R> static std::true_type ask(...);
    static constexpr bool value = decltype(ask<rivals<T>>(nullptr))::value;
};
template <class T> struct names_slots<T, false> : std::false_type {};

} // namespace detail

struct access {
    /* Whether a class has a list, and whether it is one for this class. */
    template <class T>
    static auto lists(int)
        -> decltype(T::loam_slots(std::declval<slots<T> &>()),
                    std::true_type());
    template <class T> static std::false_type lists(...);
    template <class T>
    static auto finalizes(int)
        -> decltype(std::declval<T &>().loam_finalize(), std::true_type());
    template <class T> static std::false_type finalizes(...);

    template <class T> static uint32_t list(uint32_t *offsets, std::true_type) {
        slots<T> listed(offsets);
        T::loam_slots(listed);
        return listed.count;
    }
    template <class T>
    static size_t list(uint32_t *list, size_t room, std::true_type) {
        slots<T> listed(list, room);
        T::loam_slots(listed);
        return listed.count;
    }
    template <class T>
    static size_t list(uint32_t *, size_t, std::false_type) noexcept {
        static_assert(!detail::names_slots<T>::value,
                      "loam_slots is private, or a base's that is no template");
        return 0;
    }

    template <class T, class... A> static T *construct(void *at, A &&...args) {
        return ::new (at) T(std::forward<A>(args)...);
    }
    template <class T> static void destroy(T *object) noexcept {
        object->~T();
    }
    template <class T> static void finalize(void *object) noexcept {
        static_cast<T *>(object)->loam_finalize();
    }
    template <class T>
    static constexpr loam_destroy_fn *finalizer(std::true_type) noexcept {
        return finalize<T>;
    }
    template <class T>
    static constexpr loam_destroy_fn *finalizer(std::false_type) noexcept {
        return nullptr;
    }
};

namespace detail {

/* The description of a class, made when the first object is. */
template <class T> struct type {
    using own = traits<T>;
    static constexpr size_t front = own::flags & LOAM_TYPE_SHARED ? 16 : 8;
    static constexpr bool is_quiet =
        own::slots_alone || std::is_trivially_destructible<T>::value;

    static_assert(std::is_object<T>::value && !std::is_array<T>::value &&
                      !std::is_const<T>::value && !std::is_volatile<T>::value,
                  "a class");
    static_assert(
        alignof(T) <= front,
        "objects are aligned to 8 bytes; those of shared types to 16");
    static_assert((own::flags & LOAM_TYPE_DEFERRED) == 0,
                  "a ref in a variable counts: no deferred types");

    static constexpr size_t room =
        decltype(access::lists<T>(0))::value ? sizeof(T) / sizeof(void *) : 1;

    struct loam_type described;
    uint32_t offsets[room];
    char name[64];

    static struct loam_type *get() noexcept {
        static type one;
        return &one.described;
    }

  private:
    type() noexcept : described(), offsets(), name() {
        set_name(__PRETTY_FUNCTION__);
        described.name = name;
        described.bytes = sizeof(T);
        described.flags = own::flags;
        described.slot_count = static_cast<uint32_t>(
            access::list<T>(offsets, room, decltype(access::lists<T>(0))()));
        described.slots = offsets;
        described.destroy = is_quiet ? nullptr : destroy;
        described.finalize =
            access::finalizer<T>(decltype(access::finalizes<T>(0))());
    }

    /* What stands behind "T = " in the name of a function. */
    void set_name(const char *text) noexcept {
        while (*text != '\0' && *text != '=') {
            text++;
        }
        text += *text == '=' ? 2 : 0;
        size_t length = 0;
        while (text[length] != '\0' && text[length] != ']' &&
               text[length] != ';' && length + 1 < sizeof name) {
            name[length] = text[length];
            length++;
        }
    }

    /* Members were destroyed by the destructor, and refs among them have let
     * go; the library releases what it finds in the slots after it.  What was
     * stored there before the end of the object's life the compiler may have
     * left out: so it is stored now. */
    static void destroy(void *object) noexcept {
        access::destroy(static_cast<T *>(object));
        empty(object);
    }

  public:
    static void empty(void *object) noexcept {
        const struct loam_type *known = get();
        for (uint32_t i = 0; i < known->slot_count; i++) {
            void *none = nullptr;
            __builtin_memcpy(static_cast<char *>(object) + known->slots[i],
                             &none, sizeof none);
        }
    }
};

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-var-template"
#pragma clang diagnostic ignored "-Wundefined-internal"
#endif
/* Whether the base B of D lies at its first byte.  A virtual base does not
 * compile: where it lies is not known. */
template <class D, class B, bool = std::is_abstract<D>::value> struct at_start {
    union room {
        char none;
        D object;
        room();
        ~room();
    };
    static room here; /* nowhere */
    static constexpr bool value =
        static_cast<const volatile void *>(static_cast<const volatile B *>(
            &here.object)) == static_cast<const volatile void *>(&here.object);
};
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
template <class D> struct at_start<D, D, false> : std::true_type {};
template <class D> struct at_start<D, D, true> : std::true_type {};
/* Of an abstract class there is no object to ask: asked when it is converted,
 * which costs nothing where the answer is yes. */
template <class D, class B> struct at_start<D, B, true> : std::true_type {};

template <class U, class T> T *convert(U *object) noexcept {
    static_assert(at_start<typename std::remove_cv<U>::type,
                           typename std::remove_cv<T>::type>::value,
                  "the base is not at the object's first byte");
    T *base = object;
    if (static_cast<const volatile void *>(base) !=
        static_cast<const volatile void *>(object)) {
        __builtin_trap();
    }
    return base;
}

template <class T> void *bare(T *object) noexcept {
    return const_cast<void *>(static_cast<const void *>(object));
}

/* Of an object whose constructor throws. */
template <class T> struct unfinished {
    void *object;

    explicit unfinished(void *made) noexcept : object(made) {
    }
    ~unfinished() {
        if (object != nullptr) {
            type<T>::empty(object);
            loam_abandon(object);
        }
    }
};

} // namespace detail

/* --- Owning ------------------------------------------------------------ */

/* One word: NULL, or a pointer to an object of which it is an owner.  A copy is
 * one owner more; a move is not.  T may be incomplete where a ref is declared,
 * copied and destroyed. */
template <class T> class ref {
  public:
    constexpr ref() noexcept : object(nullptr) {
    }
    constexpr ref(std::nullptr_t) noexcept : object(nullptr) {
    }
    ref(const ref &other) noexcept : object(other.object) {
        loam_retain(detail::bare(object));
    }
    ref(ref &&other) noexcept : object(other.object) {
        other.object = nullptr;
    }
    template <class U, class = typename std::enable_if<
                           std::is_convertible<U *, T *>::value>::type>
    ref(const ref<U> &other) noexcept
        : object(detail::convert<U, T>(other.get())) {
        loam_retain(detail::bare(object));
    }
    template <class U, class = typename std::enable_if<
                           std::is_convertible<U *, T *>::value>::type>
    ref(ref<U> &&other) noexcept
        : object(detail::convert<U, T>(other.release())) {
    }
    ~ref() {
        loam_release(detail::bare(object));
    }

    /* Takes what the caller owns; or becomes one owner more of what others own.
     * Both of the start of a counted object, or NULL: borrow(this) is how an
     * object gives itself away. */
    static ref adopt(T *owned) noexcept {
        return ref(owned);
    }
    static ref borrow(T *borrowed) noexcept {
        loam_retain(detail::bare(borrowed));
        return ref(borrowed);
    }

    /* The old object is released last, when the new one is there: the
     * assignment may be of a slot of the object that goes. */
    ref &operator=(const ref &other) noexcept {
        T *fresh = other.object;
        loam_retain(detail::bare(fresh));
        give(fresh);
        return *this;
    }
    ref &operator=(ref &&other) noexcept {
        give(other.release());
        return *this;
    }
    ref &operator=(std::nullptr_t) noexcept {
        give(nullptr);
        return *this;
    }

    /* Lets go, or takes what the caller owns instead. */
    void reset(T *owned = nullptr) noexcept {
        give(owned);
    }
    /* Is empty from now on; the caller owns what is returned. */
    LOAM_MUST_USE T *release() noexcept {
        T *owned = object;
        object = nullptr;
        return owned;
    }
    void swap(ref &other) noexcept {
        T *mine = object;
        object = other.object;
        other.object = mine;
    }

    T *get() const noexcept {
        return object;
    }
    T &operator*() const noexcept {
        return *object;
    }
    T *operator->() const noexcept {
        return object;
    }
    explicit operator bool() const noexcept {
        return object != nullptr;
    }

    /* loam_count and loam_unique. */
    size_t count() const noexcept {
        return loam_count(object);
    }
    bool unique() const noexcept {
        return loam_unique(object);
    }

  private:
    explicit ref(T *owned) noexcept : object(owned) {
    }
    void give(T *owned) noexcept {
        T *old = object;
        object = owned;
        loam_release(detail::bare(old));
    }

    T *object;
};

static_assert(sizeof(ref<int>) == sizeof(void *) &&
                  std::is_standard_layout<ref<int>>::value,
              "a ref is the word that C sees");

/* A new object, owned: memory of the library's, zero, in which the constructor
 * is run.  Empty, with errno ENOMEM, when memory is short.  If the constructor
 * throws, what it made is undone as in all of C++, and the memory given back;
 * it must not have given the object away by then. */
template <class T, class... A>
LOAM_MUST_USE ref<T>
make(A &&...args) noexcept(std::is_nothrow_constructible<T, A...>::value) {
    void *memory = loam_new(detail::type<T>::get());
    if (memory == nullptr) {
        return ref<T>();
    }
    detail::unfinished<T> held(memory);
    T *object = access::construct<T>(memory, std::forward<A>(args)...);
    held.object = nullptr;
    return ref<T>::adopt(object);
}

/* The description of a class, for the functions of rc.h. */
template <class T> struct loam_type *type_of() noexcept {
    return detail::type<T>::get();
}

template <class T> void swap(ref<T> &a, ref<T> &b) noexcept {
    a.swap(b);
}

/* Refs are compared by the object they own, as addresses. */
template <class T, class U>
bool operator==(const ref<T> &a, const ref<U> &b) noexcept {
    return a.get() == b.get();
}
template <class T, class U>
bool operator!=(const ref<T> &a, const ref<U> &b) noexcept {
    return a.get() != b.get();
}
template <class T, class U>
bool operator<(const ref<T> &a, const ref<U> &b) noexcept {
    return std::less<const void *>()(a.get(), b.get());
}
template <class T, class U>
bool operator>(const ref<T> &a, const ref<U> &b) noexcept {
    return b < a;
}
template <class T, class U>
bool operator<=(const ref<T> &a, const ref<U> &b) noexcept {
    return !(b < a);
}
template <class T, class U>
bool operator>=(const ref<T> &a, const ref<U> &b) noexcept {
    return !(a < b);
}
template <class T> bool operator==(const ref<T> &a, std::nullptr_t) noexcept {
    return a.get() == nullptr;
}
template <class T> bool operator==(std::nullptr_t, const ref<T> &a) noexcept {
    return a.get() == nullptr;
}
template <class T> bool operator!=(const ref<T> &a, std::nullptr_t) noexcept {
    return a.get() != nullptr;
}
template <class T> bool operator!=(std::nullptr_t, const ref<T> &a) noexcept {
    return a.get() != nullptr;
}

/* --- Weak -------------------------------------------------------------- */

namespace detail {

/* What a weak owns: the tracer does not look into malloc's memory, but what is
 * counted is safe there, and keeps the reference. */
struct leash {
    struct loam_weak *reference;

    explicit leash(struct loam_weak *made) noexcept : reference(made) {
    }
    ~leash() {
        loam_free(reference);
    }
};
/* For objects that threads share. */
struct shared_leash : leash {
    using leash::leash;
};

} // namespace detail

template <> struct traits<detail::shared_leash> : describe<LOAM_TYPE_ATOMIC> {};

/* Leads to an object as long as it lives, and keeps nothing alive; is empty
 * afterwards.  One word; may be anywhere, in containers too.  A copy leads
 * there by the same reference of loam/weak.h, of some 32 bytes. */
template <class T> class weak {
  public:
    constexpr weak() noexcept = default;

    /* Empty when memory is short. */
    weak(const ref<T> &target) noexcept
        : held(hold(target.get(), loam_weak_make)) {
    }
    /* One that a finalizer does not clear: it leads to the object still if that
     * is brought back. */
    static weak lasting(const ref<T> &target) noexcept {
        weak made;
        made.held = hold(target.get(), loam_weak_make_long);
        return made;
    }

    /* The object, owned; empty if it is gone, or about to go. */
    ref<T> lock() const noexcept {
        return held == nullptr ? ref<T>()
                               : ref<T>::adopt(static_cast<T *>(
                                     loam_weak_retain(held->reference)));
    }
    bool expired() const noexcept {
        return held == nullptr || loam_weak_get(held->reference) == nullptr;
    }
    void reset() noexcept {
        held.reset();
    }

  private:
    template <class L>
    static ref<detail::leash> tie(struct loam_weak *made) noexcept {
        ref<L> tied;
        if (made != nullptr) {
            tied = make<L>(made);
        }
        return tied;
    }
    template <class P, class F>
    static ref<detail::leash> hold(P *target, F *make_weak) noexcept {
        using own = traits<typename std::remove_cv<P>::type>;
        constexpr bool is_shared =
            (own::flags & (LOAM_TYPE_SHARED | LOAM_TYPE_ATOMIC)) != 0;
        return target == nullptr
                   ? ref<detail::leash>()
                   : tie<typename std::conditional<
                         is_shared, detail::shared_leash, detail::leash>::type>(
                         make_weak(target));
    }

    ref<detail::leash> held;
};

} // namespace loam

/* Refs as keys of unordered containers. */
namespace std {
template <class T> struct hash<loam::ref<T>> {
    size_t operator()(const loam::ref<T> &key) const noexcept {
        return hash<const void *>()(key.get());
    }
};
} // namespace std

#endif
