//! All suites in one program, so that the drivers are linked once. Run it once per flavour: `FLAVOUR=mariadb|mysql`.

mod harness;
