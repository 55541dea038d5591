//! The `#[kernel]` attribute; use it through `gpu_rt::kernel`, which documents it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, Ident, ItemFn, LitInt, ReturnType, Token, parse_macro_input,
    parse_quote,
};

/// Makes a function a kernel: what each thread of a launch runs.
///
/// The function takes nothing, or one argument by value that is `Pod` (plain bytes that mean the
/// same on the host and on the device), and returns nothing. On the host, `#[kernel] pub fn
/// name(args: Args)` becomes `pub static name: gpu_rt::Kernel<Args>`, which a launch takes; on a
/// GPU it becomes an entry point of that name.
///
/// ```
/// use gpu_rt::{Pod, Zeroable, kernel};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// pub struct Args { n: u32 }
///
/// /// Does nothing `n` times.
/// #[kernel]
/// pub fn idle(args: Args) {
///     for _ in 0..args.n {}
/// }
///
/// assert_eq!(idle.name(), "idle");
/// idle.call(Args { n: 3 });
/// ```
///
/// `#[kernel(max_threads = 256)]` says that blocks have at most 256 threads: a launch with larger ones fails,
/// on every device. On a GPU the threads of a block share its registers: at most 64 for each where blocks may
/// have 1,024 threads, as those of all other kernels may, and 255 at 256. What a thread has no register for it
/// keeps in memory; a thread with more registers leaves room for fewer others beside it.
///
/// ```
/// /// Has blocks of 256 threads at most.
/// #[gpu_rt::kernel(max_threads = 256)]
/// pub fn small() {}
///
/// assert_eq!(small.max_threads(), Some(256));
/// ```
///
/// Two arguments, a result, generics, an argument that is not `Pod`, or a block that no GPU has do not compile:
///
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn two(a: u32, b: u32) {}
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn result(a: u32) -> u32 { a }
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn generic<T: gpu_rt::Pod>(a: T) {}
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel]
/// pub fn not_pod(a: &'static u32) {}
/// ```
/// ```compile_fail
/// #[gpu_rt::kernel(max_threads = 1025)]
/// pub fn large() {}
/// ```
#[proc_macro_attribute]
pub fn kernel(
    args: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let options = parse_macro_input!(args as Options);
    let item = parse_macro_input!(item as ItemFn);
    expand(&options, &item).unwrap_or_else(Error::into_compile_error).into()
}

/// The most threads that a block can have on any GPU.
const MAX_BLOCK_THREADS: u32 = 1024;

/// What stands in the attribute's parentheses.
struct Options {
    /// The most threads of a block, if it says so.
    max_threads: Option<u32>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Options, Error> {
        if input.is_empty() {
            return Ok(Options { max_threads: None });
        }
        let option: Ident = input.parse()?;
        if option != "max_threads" {
            return Err(Error::new_spanned(option, "the only option is `max_threads = N`"));
        }
        input.parse::<Token![=]>()?;
        let number: LitInt = input.parse()?;
        let threads = number.base10_parse()?;
        if !(1..=MAX_BLOCK_THREADS).contains(&threads) {
            return Err(Error::new_spanned(number, "a block has 1 to 1024 threads"));
        }
        input.parse::<Option<Token![,]>>()?;
        Ok(Options { max_threads: Some(threads) })
    }
}

fn expand(options: &Options, item: &ItemFn) -> Result<TokenStream, Error> {
    let sig = &item.sig;
    let refuse = |what: &dyn quote::ToTokens, why: &str| Err(Error::new_spanned(what, why));
    if let Some(token) = &sig.constness {
        return refuse(token, "a kernel cannot be const");
    }
    if let Some(token) = &sig.asyncness {
        return refuse(token, "a kernel cannot be async: each thread runs it to its end");
    }
    if let Some(token) = &sig.unsafety {
        return refuse(
            token,
            "a kernel is not an unsafe fn: put unsafe blocks, with their reasons, into its body",
        );
    }
    if let Some(token) = &sig.abi {
        return refuse(token, "#[kernel] chooses the ABI");
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        return refuse(&sig.generics, "a kernel cannot be generic: a launch finds it by its name");
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        return refuse(
            ty,
            "a kernel returns nothing: write results to memory that its argument points to",
        );
    }
    if sig.inputs.len() > 1 {
        return refuse(
            &sig.inputs,
            "a kernel takes one argument: gather them in a #[repr(C)] struct that is Pod",
        );
    }
    let (pat, ty): (syn::Pat, syn::Type) = match sig.inputs.first() {
        None => (parse_quote!(_), parse_quote!(())),
        Some(FnArg::Typed(arg)) => ((*arg.pat).clone(), (*arg.ty).clone()),
        Some(FnArg::Receiver(receiver)) => return refuse(receiver, "a kernel is a free function"),
    };

    // What the compiler says of the item goes to the item, what it says of the code goes to the
    // code.
    let named =
        |attr: &&Attribute, names: &[&str]| names.iter().any(|name| attr.path().is_ident(name));
    let outer: Vec<_> = item
        .attrs
        .iter()
        .filter(|a| named(a, &["doc", "cfg", "deprecated", "allow", "expect"]))
        .collect();
    let inner: Vec<_> =
        item.attrs.iter().filter(|a| !named(a, &["doc", "cfg", "deprecated"])).collect();
    let (vis, name, body) = (&item.vis, &sig.ident, &item.block);
    let cfgs = item.attrs.iter().filter(|a| named(a, &["cfg"]));
    let assert_pod = quote_spanned! { ty.span() =>
        #(#cfgs)*
        const _: fn() = || {
            fn a_kernel_argument_must_be_pod<T: ::gpu_rt::Pod>() {}
            a_kernel_argument_must_be_pod::<#ty>();
        };
    };
    // A symbol whose name says it: so it comes through to the PTX, whoever compiles that.
    let bound = options.max_threads.map(|threads| {
        let symbol = format!("{name}$max_threads${threads}");
        quote! { #threads #symbol }
    });
    Ok(quote! {
        ::gpu_rt::__kernel! { { #(#outer)* } { #(#inner)* } #vis fn #name (#pat, #ty) #body #bound }
        #assert_pod
    })
}
